"""When a session's state is stored, and what counts as grown since."""

from __future__ import annotations

from journal.memory import MemoryStore
from journal.port import StoreUnavailable
from journal.snapshotting import NOTHING_SAVED
from journal.state import State
from tests.support.desk import Desk
from workers.archive import Archive


def rested() -> State:
    desk = Desk()
    desk.turn("t1", "x" * 100)
    desk.finish()
    assert desk.session.state is not None
    return desk.session.state


async def test_a_state_is_stored_once_it_has_grown_enough_and_what_comes_meanwhile_counts_for_the_next() -> None:
    archive, store, state = Archive(), MemoryStore(), rested()
    archive.tail_bytes = 99
    assert not archive.take(state, 100)
    archive.tail_bytes = 100
    assert archive.take(state, 100)
    assert not archive.take(state, 100)  # one at a time
    archive.tail_bytes += 7
    assert await archive.write(store.snapshots, "default/s", state)
    assert archive.tail_bytes == 7
    assert (await store.snapshots.load("default/s")) is not None
    assert archive.saved.version == state.version


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
    archive.tail_bytes = 1_000
    assert archive.take(state, 100)
    assert not await archive.write(MemoryStore(closed).snapshots, "default/s", state)
    assert (archive.saved, archive.tail_bytes) == (NOTHING_SAVED, 1_000)
    assert archive.take(state, 100)
