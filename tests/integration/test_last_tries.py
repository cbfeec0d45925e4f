"""Turns whose process ended with them twice: their last try is made one at a time, so that one that ends every process
takes no innocent one with it."""

from __future__ import annotations

import asyncio

import pytest

from journal.rows import row_of
from schemas.entries import Claim, Position
from tests.support.memory_fleet import MemoryFleet
from tests.support.poison import claimed
from workers.agent import AgentTurn, agent
from workers.context import Context
from workers.partition import TURNS


class Room:
    """An agent that notes how many are in it at once."""

    def __init__(self, *, stepping: bool) -> None:
        self.inside = self.most = 0
        self.beside: set[frozenset[str]] = set()
        self.here: list[str] = []
        self.open = asyncio.Event()
        room = self

        @agent(name="room", version="1", uses_model=False)
        async def run(turn: AgentTurn, ctx: Context) -> str:
            room.inside += 1
            room.most = max(room.most, room.inside)
            room.here.append(turn.id)
            room.beside.add(frozenset(room.here))
            if stepping:
                await ctx.step("one", lambda: 1)
                await room.open.wait()
            else:
                await asyncio.sleep(0.01)
            room.inside -= 1
            room.here.remove(turn.id)
            return "done"

        self.spec = run


async def tried_before(fleet: MemoryFleet, tries: int, sessions: int = 6, *, turn: str = "t1") -> None:
    """Turns in the log whose journal holds so many claims of workers that died."""
    before = len(fleet.records(TURNS))
    keys = [f"s{number}" for number in range(before, before + sessions)]
    for key in keys:
        fleet.turn(key, turn=turn)
    for record in fleet.records(TURNS):
        if record.key.decode() not in keys:
            continue
        await claimed(fleet.store, record, agent="room")
        for attempt in range(2, tries + 1):
            entry = Claim(
                at_ms=record.timestamp, turn=turn, attempt=attempt, tries=attempt, worker="dead", user="anonymous",
                position=Position(TURNS, record.partition, record.offset, record.timestamp),
                digest="d", deadline_ms=record.timestamp + 600_000,
            )  # fmt: skip
            await fleet.store.journal.insert([row_of(f"default/{record.key.decode()}", attempt, entry, f"n{attempt}")])


@pytest.mark.parametrize(("tries", "most"), [(1, 6), (2, 1)])
async def test_last_tries_are_made_one_at_a_time_and_others_side_by_side(tries: int, most: int) -> None:
    room = Room(stepping=False)
    async with MemoryFleet(room.spec, default="room") as fleet:
        await tried_before(fleet, tries)
        worker = await fleet.worker()
        await fleet.until(lambda: len(fleet.terminals()) == 6)
        assert {frame["type"] for frames in fleet.terminals().values() for frame in frames} == {"completed"}
        assert room.most == most
        assert (worker.system.slots.alone, worker.system.slots.held) == (None, 0)


async def test_a_last_try_runs_beside_no_turn_with_which_a_process_ended() -> None:
    room = Room(stepping=False)
    async with MemoryFleet(room.spec, default="room") as fleet:
        await tried_before(fleet, 1, 5, turn="suspect")
        await tried_before(fleet, 2, 2, turn="last")
        await tried_before(fleet, 1, 5, turn="suspect")
        await fleet.worker()
        await fleet.until(lambda: len(fleet.terminals()) == 12)
        assert {frame["type"] for frames in fleet.terminals().values() for frame in frames} == {"completed"}
    assert room.beside == {frozenset({"last"}), frozenset({"suspect"})}


async def test_a_turn_that_came_on_by_a_step_makes_way_for_the_next_last_try() -> None:
    room = Room(stepping=True)
    async with MemoryFleet(room.spec, default="room") as fleet:
        await tried_before(fleet, 2)
        await fleet.worker()
        await fleet.until(lambda: room.inside == 6)
        room.open.set()
        await fleet.until(lambda: len(fleet.terminals()) == 6)


async def test_a_new_turn_waits_for_no_last_try() -> None:
    room = Room(stepping=True)
    async with MemoryFleet(room.spec, default="room") as fleet:
        await tried_before(fleet, 2)
        await fleet.worker()
        fleet.turn("e1", turn="t1", agent="echo")
        await fleet.until(lambda: "e1~t1" in fleet.terminals())
        room.open.set()
        await fleet.until(lambda: len(fleet.terminals()) == 7)
