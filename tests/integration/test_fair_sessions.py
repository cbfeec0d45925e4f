"""A session with ten thousand queued turns among others, on a whole worker in virtual time: what they notice of it."""

from __future__ import annotations

import asyncio
import itertools
import json

from broker.partition import partition_of
from fleet.testing.virtual_loop import run
from tests.support.memory_fleet import MemoryFleet
from workers.agent import AgentTurn, agent
from workers.context import Context
from workers.partition import TURNS

HOG_TURNS, SESSIONS, RATE, SECONDS, RUN_S = 10_000, 240, 100, 30, 0.2


class Watched:
    """A fleet of one worker whose agent takes 200 ms. `ended`: when each turn of the others was over, after sending."""

    def __init__(self) -> None:
        self.ended: list[float] = []
        self.hogs: list[str] = []
        self.backlog = self.stretched = 0
        loop = asyncio.get_running_loop()

        @agent(name="works", version="1")
        async def works(turn: AgentTurn, ctx: Context) -> str:
            await asyncio.sleep(RUN_S)
            if ctx.info.session == "hog":
                self.hogs.append(turn.text)
            else:
                self.ended.append(loop.time() - float(turn.text))
            return "done"

        self.fleet = MemoryFleet(works, default="works", worker_slots=64)
        self.fleet.clock_ms = self.fleet.cluster.clock_ms = lambda: int(loop.time() * 1_000)

    async def others(self) -> None:
        """An open loop of short turns over all partitions."""
        loop = asyncio.get_running_loop()
        for number in range(RATE * SECONDS):
            self.fleet.turn(f"s{number % SESSIONS}", str(loop.time()))
            await asyncio.sleep(1 / RATE)
        while len(self.ended) < RATE * SECONDS and loop.time() < 1_000 + 10 * SECONDS:
            await asyncio.sleep(1)

    def hog(self) -> None:
        """All at once, before the others' turns that follow."""
        for number in range(HOG_TURNS):
            self.fleet.turn("hog", str(number), turn=f"t{number}")

    @property
    def p99_s(self) -> float:
        return sorted(self.ended)[len(self.ended) * 99 // 100]


async def watched(*, hog: bool) -> Watched:
    seen = Watched()
    async with seen.fleet as fleet:
        worker = await fleet.worker()
        if hog:
            seen.hog()
        await seen.others()
        held = worker.system.partitions[partition_of(b"hog", fleet.cluster.topics[TURNS].partitions)]
        seen.backlog, seen.stretched = held.backlog, held.stretched
    return seen


def test_ten_thousand_turns_of_one_session_delay_no_other() -> None:
    alone, beside = run(watched(hog=False)), run(watched(hog=True))
    assert len(alone.ended) == len(beside.ended) == RATE * SECONDS
    assert beside.p99_s <= alone.p99_s * 1.1
    assert max(beside.ended) <= max(alone.ended) * 1.1
    done = len(beside.hogs)
    assert beside.hogs == [str(number) for number in range(done)]
    assert done > SECONDS / RUN_S * 0.9, "it has its own slot all the while"
    assert beside.backlog > HOG_TURNS - 500
    assert beside.stretched > HOG_TURNS - 500, "none of it is marked before it ran"


def test_the_turns_behind_a_full_mailbox_run_in_order_and_are_all_marked() -> None:
    async def body() -> None:
        seen = Watched()
        async with seen.fleet as fleet:
            worker = await fleet.worker()
            for number in range(1_000):
                fleet.turn("hog", str(number), turn=f"t{number}")
            while len(fleet.terminals()) < 1_000:
                await asyncio.sleep(10)
            assert seen.hogs == [str(number) for number in range(1_000)]
            await asyncio.sleep(1)
            assert fleet.committed_everything()
            system = worker.system
            assert (system.backlog, system.backlog_bytes, system.waiting) == (0, 0, 0)
            assert not any(partition.paused for partition in system.partitions.values())

    run(body())


def test_short_turns_of_a_session_share_inserts_and_leave_the_slot_to_whoever_waits() -> None:
    async def body() -> None:
        order: list[str] = []
        carried = set[str]()

        @agent(name="quick", version="1")
        async def quick(turn: AgentTurn, ctx: Context) -> str:
            order.append(ctx.info.session)
            task = asyncio.current_task()
            carried.add(type(task.get_coro() if task is not None else None).__name__)
            return "done"

        fleet = MemoryFleet(quick, default="quick", worker_slots=1)
        async with fleet:
            for session in ("a", "b"):
                for number in range(40):
                    fleet.turn(session, str(number), turn=f"{session}{number}")
            await fleet.worker()
            while len(fleet.terminals()) < 80:
                await asyncio.sleep(1)
            rows = [(await fleet.state(session)).version for session in ("a", "b")]
        rounds = [len(list(turns)) for _, turns in itertools.groupby(order)]
        assert max(rounds) <= 9, "a slot goes to whoever waits for it"
        assert len(rounds) >= 8
        assert carried == {"coroutine"}, "a turn is no part of the one that wrote before it"
        assert max(rows) <= 40 + 8, "a FINISH carries the next CLAIM"

    run(body())


def test_a_rebalance_keeps_neither_two_of_a_turn_nor_none() -> None:
    async def body() -> None:
        seen = Watched()
        async with seen.fleet as fleet:
            first = await fleet.worker()
            for number in range(500):
                fleet.turn("hog", str(number), turn=f"t{number}")
            for _ in range(3):
                await asyncio.sleep(2)
                before = sum(worker.system.backlog for worker, _ in fleet.workers)
                assert before > 400
                await fleet.worker()
                await asyncio.sleep(2)
                assert sum(worker.system.backlog for worker, _ in fleet.workers) < before
            assert len([worker for worker, _ in fleet.workers if worker.system.backlog]) == 1
            while len(fleet.terminals()) < 500:
                await asyncio.sleep(10)
            assert sorted(set(seen.hogs), key=int) == [str(number) for number in range(500)]
            assert first.error is None
            order = [json.loads(record.value)["turn"] for record in fleet.records("agent.usage")]
            assert order == [f"t{number}" for number in range(500)]

    run(body())


def test_a_backlog_that_is_too_large_pauses_its_partition_and_no_other() -> None:
    async def body() -> None:
        seen = Watched()
        seen.fleet.settings = seen.fleet.settings.model_copy(update={"worker_backlog_bytes": 50_000})
        async with seen.fleet as fleet:
            worker = await fleet.worker()
            for number in range(700):
                fleet.turn("hog", str(number), turn=f"t{number}")
            await asyncio.sleep(1)
            paused = [number for number, partition in worker.system.partitions.items() if partition.paused]
            assert paused == [partition_of(b"hog", 12)]
            most = 0
            while len(fleet.terminals()) < 700:
                most = max(most, worker.system.backlog_bytes)
                await asyncio.sleep(10)
            assert 50_000 < most < 50_000 + 500 * 1_000, "a poll's worth more at most"
            assert not any(partition.paused for partition in worker.system.partitions.values())

    run(body())
