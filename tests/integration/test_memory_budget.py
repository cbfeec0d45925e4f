"""Workers on the twins whose memory the test sets; and a real one that is sent more than it may hold."""

from __future__ import annotations

import asyncio

from tests.support.memory_fleet import MemoryFleet
from workers.memory import MemoryBudget
from workers.worker import Worker

MIB = 1_048_576


class Reading:
    """How much memory a worker has, as its budget of 100 MiB reads it."""

    def __init__(self, worker: Worker) -> None:
        self.mib = 10
        self.budget = MemoryBudget(
            worker.system, 100, worker.failed, read=lambda: self.mib * MIB, free=lambda _thorough: None
        )

    async def now(self, mib: int) -> None:
        self.mib = mib
        await self.budget.look()


async def test_a_worker_short_of_memory_reads_no_turns_and_answers_control_and_goes_on_later() -> None:
    async with MemoryFleet() as fleet:
        reading = Reading(await fleet.worker())
        fleet.turn("s0")
        await fleet.until(lambda: len(fleet.terminals()) == 1)
        await reading.now(95)
        for number in range(50):
            fleet.turn(f"s{number}", turn="late")
        fleet.control("s99", op="o1", kind="open")
        await fleet.until(lambda: fleet.frames("s99", "ack"))
        await asyncio.sleep(0.2)
        assert len(fleet.terminals()) == 1
        await reading.now(85)
        await asyncio.sleep(0.1)
        assert len(fleet.terminals()) == 1
        await reading.now(79)
        await fleet.until(lambda: len(fleet.terminals()) == 51)


async def test_its_partitions_stay_paused_over_a_rebalance_and_it_stays_a_member() -> None:
    async with MemoryFleet() as fleet:
        short = await fleet.worker()
        reading = Reading(short)
        await fleet.until(lambda: len(short.system.partitions) == 12)
        await reading.now(95)
        other = await fleet.worker()
        await fleet.until(lambda: len(other.system.partitions) == 6 and len(short.system.partitions) == 6)
        for number in range(100):
            fleet.turn(f"s{number}")
        await fleet.until(lambda: not other.system.waiting and len(fleet.terminals()) > 20)
        await asyncio.sleep(0.6)  # twice the session timeout
        assert len(short.system.partitions) == 6
        assert 20 < len(fleet.terminals()) < 80
        assert {frame["worker"] for frame in fleet.frames(kind="started")} <= {other.system.worker}
        await reading.now(60)
        await fleet.until(lambda: len(fleet.terminals()) == 100)


async def test_one_with_nothing_to_do_and_no_room_ends_for_its_supervisor() -> None:
    async with MemoryFleet() as fleet:
        worker = await fleet.worker()
        reading = Reading(worker)
        for _ in range(120):
            await reading.now(95)
        assert worker.stopping.is_set()
        assert isinstance(worker.error, MemoryError)
