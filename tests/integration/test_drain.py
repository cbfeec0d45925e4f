"""A worker leaves, on the in-memory twins: what may end, what is handed over and where, what is written and marked."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from broker.memory import MemoryAdmin, Verdict
from broker.port import Outgoing
from journal.gate import Call, open_gate
from schemas.topics import load_topics
from tests.support.memory_fleet import MemoryFleet
from workers.agent import AgentTurn, agent
from workers.context import Context
from workers.partition import TURNS
from workers.readiness import Readiness
from workers.worker import Worker


class Steps:
    """An agent of `count` steps, `wide` at a time. A step that is `shut` waits until the test opens it."""

    def __init__(self, count: int = 3, *, wide: int = 1) -> None:
        self.count = count
        self.wide = wide
        self.shut: dict[int, asyncio.Event] = {}
        self.begun: Counter[int] = Counter()
        self.runs = 0

    def shut_step(self, number: int) -> asyncio.Event:
        self.shut[number] = asyncio.Event()
        return self.shut[number]

    async def work(self, number: int) -> int:
        self.begun[number] += 1
        if (door := self.shut.get(number)) is not None:
            await door.wait()
        return number

    def spec(self) -> Any:
        @agent(name="steps", version="1")
        async def steps(turn: AgentTurn, ctx: Context) -> str:
            self.runs += 1
            for first in range(0, self.count, self.wide):
                numbers = range(first, min(first + self.wide, self.count))
                await asyncio.gather(*(ctx.step(f"s{number}", self.work, number) for number in numbers))
            return "done"

        return steps


class Held:
    """Inserts with an entry of this kind get no answer, or are not sent, until the test opens it."""

    def __init__(self, fleet: MemoryFleet, kind: str, *, moment: str = "before") -> None:
        self.kind, self.moment = kind, moment
        self.open = asyncio.Event()
        self.here = asyncio.Event()
        fleet.store.log.gate = self.gate

    async def gate(self, call: Call) -> None:
        if (call.operation, call.phase) != ("insert", self.moment):
            return
        if any(row.kind == self.kind for row in call.arguments[0]):
            self.here.set()
            await self.open.wait()


def kinds(fleet: MemoryFleet, session: str = "s1") -> list[str]:
    """The session's entries."""
    rows = sorted((v, row.kind) for (s, v), row in fleet.store.log.rows.items() if s == f"default/{session}")
    return [kind for _, kind in rows]


def committed(fleet: MemoryFleet) -> int:
    """Records of `agent.turns` that the group holds for done."""
    group: Any = fleet.cluster.groups["workers"]
    return sum(offset for (topic, _), offset in group.committed.items() if topic == TURNS)


async def ended(fleet: MemoryFleet, session: str = "s1") -> tuple[str, int]:
    """Type and attempt of the one terminal frame of turn t1, from whoever is left."""
    await fleet.until(lambda: fleet.terminals())
    (frame,) = fleet.terminals()[f"{session}~t1"]
    return frame["type"], frame["attempt"]


async def drained(worker: Worker, *, within_s: float) -> float:
    """As SIGTERM does it; how long it took."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    worker.stop()
    await asyncio.wait_for(worker.drain(), within_s)
    return loop.time() - began_s


async def test_running_turns_may_end_within_the_soft_limit_and_nothing_new_begins() -> None:
    steps = Steps(1)
    door = steps.shut_step(0)
    async with MemoryFleet(steps.spec(), default="steps", worker_drain_s=5, worker_grace_s=10) as fleet:
        first = await fleet.worker()
        fleet.turn("s1", turn="t1")
        fleet.turn("s1", turn="t2")
        await fleet.until(lambda: steps.begun)
        leaving = asyncio.create_task(drained(first, within_s=5))
        await asyncio.sleep(0.05)
        fleet.turn("s2", turn="t1")
        await asyncio.sleep(0.05)
        assert steps.runs == 1
        door.set()
        assert await leaving < 1
        assert kinds(fleet) == ["claim", "step", "finish"]
        assert (committed(fleet), first.system.handed_over) == (1, 0)
        await fleet.worker()
        await fleet.until(lambda: len(fleet.terminals()) == 3)
        assert {frame["attempt"] for frames in fleet.terminals().values() for frame in frames} == {1}


async def test_it_is_not_ready_from_the_signal_on_and_stays_in_the_group() -> None:
    steps = Steps(1)
    door = steps.shut_step(0)
    async with MemoryFleet(steps.spec(), default="steps", worker_drain_s=5, worker_grace_s=10) as fleet:
        first = await fleet.worker()
        readiness = Readiness(first, MemoryAdmin(fleet.cluster), load_topics(None))
        fleet.turn("s1", turn="t1")
        await fleet.until(lambda: steps.begun)
        assert readiness.reasons() == {}
        leaving = asyncio.create_task(drained(first, within_s=5))
        await asyncio.sleep(0)
        assert readiness.reasons() == {"worker": "draining"}
        await asyncio.sleep(0.5)  # longer than the twin's session timeout
        assert len(first.system.partitions) == 12
        partition = next(number for number, p in first.system.partitions.items() if p.actors)
        assert await first.system.prove(first.system.partitions[partition])
        door.set()
        await leaving


async def test_after_the_soft_limit_a_turn_is_handed_over_when_its_step_is_journaled() -> None:
    steps = Steps(3)
    door = steps.shut_step(1)
    async with MemoryFleet(steps.spec(), default="steps", worker_drain_s=0.05, worker_grace_s=10) as fleet:
        first = await fleet.worker()
        fleet.turn("s1", turn="t1")
        await fleet.until(lambda: steps.begun[1])
        leaving = asyncio.create_task(drained(first, within_s=5))
        await asyncio.sleep(0.3)
        assert kinds(fleet) == ["claim", "step"]
        assert not leaving.done(), "it waits for the step"
        door.set()
        await leaving
        assert kinds(fleet) == ["claim", "step", "step", "release"]
        assert (steps.begun[2], committed(fleet), first.system.handed_over) == (0, 0, 1)
        await fleet.worker()
        assert await ended(fleet) == ("completed", 2)
        assert steps.begun == {0: 1, 1: 1, 2: 1}
        await fleet.until(lambda: committed(fleet) == 1)


async def test_steps_side_by_side_are_all_journaled_before_the_hand_over() -> None:
    steps = Steps(3, wide=2)
    doors = [steps.shut_step(number) for number in (0, 1)]
    async with MemoryFleet(steps.spec(), default="steps", worker_drain_s=0.05, worker_grace_s=10) as fleet:
        first = await fleet.worker()
        fleet.turn("s1", turn="t1")
        await fleet.until(lambda: len(steps.begun) == 2)
        leaving = asyncio.create_task(drained(first, within_s=5))
        await asyncio.sleep(0.15)
        doors[1].set()
        await asyncio.sleep(0.1)
        assert kinds(fleet) == ["claim", "step"]
        doors[0].set()
        await leaving
        assert kinds(fleet) == ["claim", "step", "step", "release"]
        await fleet.worker()
        assert await ended(fleet) == ("completed", 2)
        assert steps.begun == {0: 1, 1: 1, 2: 1}


async def test_an_agent_that_is_in_no_step_is_handed_over_at_the_soft_limit() -> None:
    inside = asyncio.Event()

    @agent(name="idle", version="1")
    async def idle(turn: AgentTurn, ctx: Context) -> str:
        if not inside.is_set():
            inside.set()
            await asyncio.Event().wait()
        return "done"

    async with MemoryFleet(idle, default="idle", worker_drain_s=0.05, worker_grace_s=10) as fleet:
        first = await fleet.worker()
        fleet.turn("s1", turn="t1")
        await fleet.until(inside.is_set)
        assert await drained(first, within_s=5) < 1
        assert kinds(fleet) == ["claim", "release"]
        await fleet.worker()
        assert await ended(fleet) == ("completed", 2)


async def test_a_second_signal_hands_over_in_the_middle_of_a_step_and_redoes_that_one_alone() -> None:
    steps = Steps(3)
    steps.shut_step(1)
    async with MemoryFleet(steps.spec(), default="steps", worker_drain_s=30, worker_grace_s=60) as fleet:
        first = await fleet.worker()
        fleet.turn("s1", turn="t1")
        await fleet.until(lambda: steps.begun[1])
        leaving = asyncio.create_task(drained(first, within_s=5))
        await asyncio.sleep(0.1)
        assert kinds(fleet) == ["claim", "step"]
        first.stop()
        assert await leaving < 1
        assert kinds(fleet) == ["claim", "step", "release"]
        steps.shut.clear()
        await fleet.worker()
        assert await ended(fleet) == ("completed", 2)
        assert steps.begun == {0: 1, 1: 2, 2: 1}
        assert (await fleet.state("s1")).turns == 1


async def test_the_end_of_the_grace_period_hands_over_in_the_middle_of_a_step() -> None:
    steps = Steps(2)
    steps.shut_step(0)
    async with MemoryFleet(steps.spec(), default="steps", worker_drain_s=0.1, worker_grace_s=0.8) as fleet:
        first = await fleet.worker()
        fleet.turn("s1", turn="t1")
        await fleet.until(lambda: steps.begun)
        assert 0.3 < await drained(first, within_s=5) < 0.8
        assert kinds(fleet) == ["claim", "release"]
        steps.shut.clear()
        await fleet.worker()
        assert await ended(fleet) == ("completed", 2)


async def test_a_claim_that_is_being_written_is_released_and_its_agent_never_runs() -> None:
    steps = Steps(1)
    async with MemoryFleet(steps.spec(), default="steps", worker_drain_s=30, worker_grace_s=60) as fleet:
        first = await fleet.worker()
        claim = Held(fleet, "claim", moment="after")
        fleet.turn("s1", turn="t1")
        await fleet.until(claim.here.is_set)
        first.stop()
        leaving = asyncio.create_task(drained(first, within_s=5))
        await asyncio.sleep(0.1)
        claim.open.set()
        await leaving
        assert (kinds(fleet), steps.runs) == (["claim", "release"], 0)
        await fleet.worker()
        assert await ended(fleet) == ("completed", 2)


async def test_a_step_that_is_being_written_is_kept_also_when_told_to_hurry() -> None:
    steps = Steps(2)
    async with MemoryFleet(steps.spec(), default="steps", worker_drain_s=30, worker_grace_s=60) as fleet:
        first = await fleet.worker()
        step = Held(fleet, "step")
        fleet.turn("s1", turn="t1")
        await fleet.until(step.here.is_set)
        first.stop()
        leaving = asyncio.create_task(drained(first, within_s=5))
        await asyncio.sleep(0.1)
        step.open.set()
        await leaving
        assert kinds(fleet) == ["claim", "step", "release"]
        await fleet.worker()
        assert await ended(fleet) == ("completed", 2)
        assert steps.begun == {0: 1, 1: 1}


async def test_an_end_that_is_being_written_is_an_end_also_when_told_to_hurry() -> None:
    steps = Steps(1)
    async with MemoryFleet(steps.spec(), default="steps", worker_drain_s=30, worker_grace_s=60) as fleet:
        first = await fleet.worker()
        finish = Held(fleet, "finish")
        fleet.turn("s1", turn="t1")
        await fleet.until(finish.here.is_set)
        first.stop()
        leaving = asyncio.create_task(drained(first, within_s=5))
        await asyncio.sleep(0.1)
        finish.open.set()
        await leaving
        assert kinds(fleet) == ["claim", "step", "finish"]
        assert await ended(fleet) == ("completed", 1)
        assert committed(fleet) == 1, "flushed, then committed, then left"


async def test_nothing_is_committed_whose_frame_is_not_acknowledged_and_the_next_owner_publishes_it() -> None:
    steps = Steps(1)
    async with MemoryFleet(steps.spec(), default="steps", worker_drain_s=0.2, worker_grace_s=1) as fleet:
        first = await fleet.worker()
        fleet.turn("s0", turn="t1")
        await fleet.until(lambda: committed(fleet) == 1)
        fleet.cluster.judge = lambda outgoing: Verdict.DROP
        fleet.turn("s1", turn="t1")
        await fleet.until(lambda: "finish" in kinds(fleet))
        assert await drained(first, within_s=5) < 1.1, "within the grace period"
        assert committed(fleet) == 1
        fleet.cluster.judge = lambda outgoing: Verdict.TAKE
        await fleet.worker()
        await fleet.until(lambda: committed(fleet) == 2)
        assert await ended(fleet) == ("completed", 1)
        assert kinds(fleet) == ["claim", "step", "finish"]


async def test_the_frame_of_the_turn_before_is_marked_although_its_session_was_handed_over() -> None:
    """The next turn began with the FINISH of the one before, whose frame is still on its way at the hand-over."""
    steps = Steps(1)
    answers: list[Outgoing] = []
    async with MemoryFleet(steps.spec(), default="steps", worker_drain_s=30, worker_grace_s=60) as fleet:
        first = await fleet.worker()
        door = steps.shut_step(0)
        fleet.turn("s1", turn="t1")
        fleet.turn("s1", turn="t2")
        await fleet.until(lambda: steps.begun[0] == 1)

        def judge(outgoing: Outgoing) -> Verdict:
            answers.append(outgoing)
            return Verdict.DROP

        fleet.cluster.judge = judge
        door.set()
        steps.shut_step(0)
        await fleet.until(lambda: steps.begun[0] == 2 and answers)
        first.stop()
        leaving = asyncio.create_task(drained(first, within_s=5))
        await asyncio.sleep(0.1)
        fleet.cluster.judge = lambda outgoing: Verdict.TAKE
        await leaving
        assert kinds(fleet) == ["claim", "step", "finish", "release"]
        assert committed(fleet) == 1
        steps.shut.clear()


async def test_a_store_that_does_not_answer_holds_it_up_no_longer_than_the_grace_period() -> None:
    steps = Steps(1)
    async with MemoryFleet(steps.spec(), default="steps", worker_drain_s=0.1, worker_grace_s=1) as fleet:
        first = await fleet.worker()
        finish = Held(fleet, "finish")
        fleet.turn("s1", turn="t1")
        await fleet.until(finish.here.is_set)
        assert await drained(first, within_s=5) < 1.2
        fleet.store.log.gate = open_gate
        second = await fleet.worker()
        await fleet.until(lambda: len(second.system.partitions) == 12, timeout_s=0.25)
        assert await ended(fleet) == ("completed", 2)
        finish.open.set()


async def test_a_cancel_is_obeyed_while_it_drains() -> None:
    steps = Steps(1)
    steps.shut_step(0)
    async with MemoryFleet(steps.spec(), default="steps", worker_drain_s=0.05, worker_grace_s=10) as fleet:
        first = await fleet.worker()
        fleet.turn("s1", turn="t1")
        await fleet.until(lambda: steps.begun)
        leaving = asyncio.create_task(drained(first, within_s=5))
        await asyncio.sleep(0.15)
        fleet.control("s1", op="c1", kind="cancel", turn="t1")
        await leaving
        assert await ended(fleet) == ("cancelled", 1)
        assert [ack["state"] for ack in fleet.frames("s1", "ack")] == ["applied"]


async def test_what_comes_for_a_session_after_its_hand_over_is_the_next_owners() -> None:
    steps = Steps(2)
    door = steps.shut_step(0)
    async with MemoryFleet(steps.spec(), default="steps", worker_drain_s=0.05, worker_grace_s=10) as fleet:
        first = await fleet.worker()
        other = steps.shut_step(1)
        fleet.turn("s1", turn="t1")
        await fleet.until(lambda: steps.begun)
        fleet.turn("s2", turn="t1")
        await fleet.until(lambda: steps.begun[0] == 2)
        leaving = asyncio.create_task(drained(first, within_s=8))
        await asyncio.sleep(0.1)
        actor = next(a for p in first.system.partitions.values() for a in p.actors.values() if a.key == "default/s1")
        actor.hand_over(at_once=True)
        fleet.control("s1", op="c1", kind="cancel", turn="t1")
        await asyncio.sleep(0.1)
        assert not fleet.frames("s1", "ack")
        door.set()
        other.set()
        await leaving
        await fleet.worker()
        await fleet.until(lambda: fleet.frames("s1", "ack"))
        await fleet.until(lambda: len(fleet.terminals()) == 2)
        assert [ack["state"] for ack in fleet.frames("s1", "ack")] == ["applied"]


async def test_whatever_breaks_the_worker_leaves_the_group() -> None:
    async with MemoryFleet(worker_drain_s=0.1, worker_grace_s=1) as fleet:
        first = await fleet.worker()
        first.system.commit._break(RuntimeError("a bug"))
        await drained(first, within_s=5)
        second = await fleet.worker()
        await fleet.until(lambda: len(second.system.partitions) == 12, timeout_s=0.25)
