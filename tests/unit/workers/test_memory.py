"""The memory budget with a reading that the test sets: what goes first, what is paused, when it is over."""

from __future__ import annotations

from typing import Any

import pytest

from workers.memory import BudgetTooSmall, MemoryBudget, give_back, resident_bytes
from workers.metrics import WorkerMetrics
from workers.pool import SessionPool
from workers.slots import Slots

MIB = 1_048_576


class FakeSystem:
    """What the budget looks at, and the pauses that were asked for."""

    def __init__(self) -> None:
        self.pool: SessionPool[str] = SessionPool(1_000, 900.0, clock_s=lambda: 0.0)
        self.slots = Slots(4)
        self.metrics = WorkerMetrics(dict)
        self.waiting = 0
        self.memory_bytes = 0
        self.short_of_memory = False
        self.pauses: list[bool] = []

    def apply_pauses(self) -> None:
        self.pauses.append(self.short_of_memory)


class Memory:
    """A budget of 100 MiB whose reading is `mib`; `freed`: what `free` takes off it."""

    def __init__(self, budget_mib: int = 100) -> None:
        self.mib = 10.0
        self.freed = 0.0
        self.freeings: list[bool] = []
        self.errors: list[BaseException] = []
        self.system = FakeSystem()
        system: Any = self.system
        self.budget = MemoryBudget(system, budget_mib, self.errors.append, read=self._read, free=self._free)

    def _read(self) -> int:
        return int(self.mib * MIB)

    def _free(self, thorough: bool) -> None:
        self.freeings.append(thorough)
        self.mib -= self.freed

    async def at(self, mib: float, looks: int = 1) -> Memory:
        self.mib = mib
        for _ in range(looks):
            await self.budget.look()
        return self

    @property
    def short(self) -> bool:
        return self.system.short_of_memory


async def test_with_room_nothing_happens_but_the_reading() -> None:
    memory = Memory()
    memory.system.pool.put("a", "warm", 10)
    await memory.at(79, looks=50)
    assert memory.system.memory_bytes == 79 * MIB
    assert ("a" in memory.system.pool, memory.system.pauses, memory.freeings) == (True, [], [])


async def test_warm_sessions_go_before_any_partition_is_paused() -> None:
    memory = Memory()
    memory.system.pool.put("rests", "warm", 10)
    memory.system.pool.put("busy", "warm", 10)
    memory.system.pool.pin("busy")
    await memory.at(80)
    assert list(memory.system.pool) == ["busy"]
    assert (memory.system.pauses, memory.freeings) == ([], [True])


async def test_no_session_stays_warm_until_there_is_room_for_it() -> None:
    memory = Memory()
    await memory.at(80)
    await memory.at(75)
    memory.system.pool.put("a", "warm", 10)
    assert "a" not in memory.system.pool
    await memory.at(69)
    memory.system.pool.put("a", "warm", 10)
    assert "a" in memory.system.pool


async def test_where_the_warm_sessions_were_enough_nothing_is_paused() -> None:
    memory = Memory()
    memory.freed = 20
    await memory.at(95)
    assert (memory.system.memory_bytes, memory.system.pauses) == (75 * MIB, [])


async def test_partitions_are_paused_and_resumed_with_hysteresis() -> None:
    memory = Memory()
    await memory.at(89)
    assert not memory.short
    for mib in (90, 85, 120, 80):
        await memory.at(mib)
        assert memory.short
    await memory.at(79)
    assert not memory.short
    await memory.at(89)
    assert memory.system.pauses == [True, False]
    assert memory.system.metrics.counts["memory_pauses"][""] == 1


async def test_what_was_freed_meanwhile_goes_back_to_the_system() -> None:
    memory = Memory()
    memory.system.waiting = 5
    await memory.at(95)
    memory.freeings.clear()
    await memory.at(95, looks=20)
    assert memory.freeings == [False, False], "work goes on: nothing that takes long"
    memory.system.waiting = 0
    memory.freed = 30
    await memory.at(95, looks=10)
    assert memory.freeings[-1] is True
    await memory.budget.look()
    assert not memory.short


async def test_a_worker_that_is_over_it_with_nothing_to_do_is_started_anew() -> None:
    memory = Memory()
    memory.system.waiting = 1
    await memory.at(95, looks=1_000)
    assert not memory.errors
    memory.system.waiting = 0
    memory.system.slots.free = 3
    await memory.at(95, looks=1_000)
    assert not memory.errors, "a turn runs"
    memory.system.slots.free = 4
    await memory.at(95, looks=99)
    assert not memory.errors
    await memory.at(95, looks=50)
    assert [type(error) for error in memory.errors] == [MemoryError]


async def test_without_a_budget_it_only_reads() -> None:
    memory = Memory(budget_mib=0)
    memory.budget.require_room()
    await memory.at(10_000, looks=200)
    assert memory.system.memory_bytes == 10_000 * MIB
    assert (memory.system.pauses, memory.freeings, memory.errors) == ([], [], [])


def test_a_batch_that_fills_it_is_the_last_one() -> None:
    memory = Memory()
    memory.mib = 91
    memory.budget.received()
    assert memory.system.pauses == [True]


def test_without_a_budget_no_batch_costs_a_reading() -> None:
    memory = Memory(budget_mib=0)
    memory.mib = 5
    memory.budget.received()
    assert memory.system.memory_bytes == 0


def test_a_budget_that_a_worker_at_rest_fills_is_refused() -> None:
    memory = Memory()
    memory.mib = 79
    memory.budget.require_room()
    memory.mib = 80
    with pytest.raises(BudgetTooSmall, match="FLEET_WORKER_MEMORY_MIB=100 is too little"):
        memory.budget.require_room()


def test_this_process_has_memory_and_gives_some_back() -> None:
    before = resident_bytes()
    assert 5 * MIB < before < 100_000 * MIB
    held = bytearray(64 * MIB)
    held[::4096] = b"x" * len(held[::4096])
    assert resident_bytes() > before + 50 * MIB
    del held
    give_back(thorough=False)
    assert resident_bytes() < before + 30 * MIB
