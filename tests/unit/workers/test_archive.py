"""When a session's state is stored, and what counts as grown since."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from journal.gate import Call
from journal.memory import MemoryStore
from journal.port import StoreUnavailable
from journal.snapshotting import NOTHING_SAVED, Saved
from journal.state import State
from tests.support.desk import Desk
from tests.support.stage import settle
from workers.archive import Archive
from workers.snapshots import MOST, SnapshotWriter


def rested() -> State:
    desk = Desk()
    desk.turn("t1", "x" * 100)
    desk.finish()
    assert desk.session.state is not None
    return desk.session.state


def writer(store: MemoryStore) -> tuple[SnapshotWriter, list[int]]:
    counted: list[int] = []
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def spawn(work: Coroutine[Any, Any, None], name: str) -> None:
        tasks.add(loop.create_task(work, name=name))

    return SnapshotWriter(store.snapshots, spawn=spawn, count=counted.append), counted


async def test_a_state_is_stored_once_it_has_grown_enough_and_what_comes_meanwhile_counts_for_the_next() -> None:
    archive, store, state = Archive(), MemoryStore(), rested()
    snapshots, counted = writer(store)
    archive.tail_bytes = 99
    assert not archive.take(state, 100)
    archive.tail_bytes = 100
    assert archive.take(state, 100)
    assert not archive.take(state, 100)  # one at a time
    archive.tail_bytes += 7
    snapshots.add("default/s", state, archive)
    await settle()
    assert counted == [1]
    assert archive.tail_bytes == 7
    assert (await store.snapshots.load("default/s")) is not None
    assert archive.saved.version == state.version


async def test_what_is_due_at_once_is_stored_together() -> None:
    calls: list[int] = []

    async def gate(call: Call) -> None:
        if call.operation == "snapshots.save" and call.phase == "before":
            calls.append(len(call.arguments[0]))

    store, state = MemoryStore(gate), rested()
    snapshots, counted = writer(store)
    archives = [Archive() for _ in range(MOST + 3)]
    for n, archive in enumerate(archives):
        archive.tail_bytes = 100
        assert archive.take(state, 100)
        snapshots.add(f"default/s{n}", state, archive)
    await settle()
    assert calls == counted == [MOST, 3]
    assert all(archive.saved.version == state.version for archive in archives)


async def test_a_life_that_was_wiped_meanwhile_is_not_taken_for_saved() -> None:
    archive, store, state = Archive(), MemoryStore(), rested()
    snapshots, _ = writer(store)
    archive.tail_bytes = 100
    assert archive.take(state, 100)
    snapshots.add("default/s", state, archive)
    await asyncio.sleep(0)
    archive.begin(Saved(version=9), 5)
    await settle()
    assert (archive.saved.version, archive.tail_bytes) == (9, 5)


async def test_a_state_with_an_open_turn_is_not_stored() -> None:
    desk = Desk()
    desk.turn("t1")
    assert desk.session.state is not None
    archive = Archive()
    archive.tail_bytes = 1_000
    assert archive.near(100)
    assert not archive.take(desk.session.state, 100)


async def test_a_store_that_does_not_answer_costs_only_this_snapshot() -> None:
    async def closed(_: object) -> None:
        raise StoreUnavailable("away")

    archive, state = Archive(), rested()
    snapshots, counted = writer(MemoryStore(closed))
    archive.tail_bytes = 1_000
    assert archive.take(state, 100)
    snapshots.add("default/s", state, archive)
    await settle()
    assert counted == []
    assert (archive.saved, archive.tail_bytes) == (NOTHING_SAVED, 1_000)
    assert archive.take(state, 100)
