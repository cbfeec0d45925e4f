"""Loading: a snapshot helps, and one that does not fit is passed over. Alone and among others alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from journal import loader
from journal.loader import FIRST, PAGE, Loaded, read_on
from journal.loading import Loading
from journal.memory import MemoryStore
from journal.port import Row, Saving, Store
from journal.snapshotting import NOTHING_SAVED, saved_by, snapshot_write
from journal.state import EMPTY
from journal.wiping import wipe
from schemas.snapshot import Chunk, Snapshot
from tests.support.entries import Session

S = "t/s"
Load = Callable[[Store, str], Awaitable[Loaded]]


async def among_others(store: Store, s: str) -> Loaded:
    """Loaded in a batch: beside sessions that are not there, and before and behind ones that fill the first look."""
    assert isinstance(store, MemoryStore)
    for other in ("t/r", "t/t"):
        if (other, 1) not in store.log.rows:
            neighbour = Session(other)
            talk(neighbour, 2 * FIRST)
            store.log.apply(neighbour.rows)
    async with asyncio.TaskGroup() as group:
        loading = Loading(store, lambda work, name: [group.create_task(work, name=name)].clear())
        before, found, *_ = await asyncio.gather(*map(loading.load, ("t/r", s, "t/a", "t/t", "t/z")))
    assert before.state.version == 4 * FIRST
    return found


@pytest.fixture(params=[loader.load, among_others], ids=["alone", "among others"])
def load(request: pytest.FixtureRequest) -> Load:
    found: Load = request.param
    return found


def talk(session: Session, turns: int) -> None:
    for _ in range(turns):
        session.add(session.claim())
        session.add(session.finish())


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def session(store: MemoryStore) -> Session:
    """Eight long turns in the store; chunks are full."""
    grown = Session(S, long=True)
    talk(grown, 8)
    store.log.apply(grown.rows)
    return grown


def written(session: Session) -> tuple[Snapshot, list[Chunk]]:
    return snapshot_write(session.state, NOTHING_SAVED)


async def test_a_session_that_nobody_wrote_is_empty(load: Load, store: MemoryStore) -> None:
    assert await load(store, S) == (EMPTY, NOTHING_SAVED, 0)


async def test_without_a_snapshot_every_entry_is_folded(load: Load, store: MemoryStore, session: Session) -> None:
    loaded = await load(store, S)

    assert loaded.state == session.state
    assert loaded.saved == NOTHING_SAVED
    assert loaded.tail_bytes == sum(row.size for row in session.rows)


async def test_a_snapshot_and_its_chunks_are_used_and_say_what_they_cover(
    load: Load, store: MemoryStore, session: Session
) -> None:
    snapshot, chunks = written(session)
    assert len(chunks) == 5
    await store.snapshots.save([Saving(S, snapshot, chunks)])
    for v in range(1, snapshot.version):
        del store.log.rows[S, v]  # not even looked at
    store.log._versions[S] = [snapshot.version]
    talk(session, 1)
    store.log.apply(session.rows[-2:])

    loaded = await load(store, S)

    assert loaded.state == session.state
    assert loaded.saved == saved_by(snapshot)
    assert loaded.tail_bytes == sum(row.size for row in session.rows[-2:])


@pytest.mark.parametrize(
    "harm", ["one chunk is missing", "cut elsewhere", "the last ends early", "one begins late", "of another life"]
)
async def test_a_snapshot_that_does_not_fit_its_chunks_is_passed_over(
    load: Load, store: MemoryStore, session: Session, harm: str
) -> None:
    snapshot, chunks = written(session)
    if harm == "one chunk is missing":
        del chunks[1]
    if harm == "cut elsewhere":
        chunks[1] = chunks[1].model_copy(update={"items": chunks[1].items[:-1]})
        chunks[2] = chunks[2].model_copy(update={"first": chunks[2].first - 1})
    if harm == "the last ends early":
        chunks[4] = chunks[4].model_copy(update={"items": chunks[4].items[:-1]})
    if harm == "one begins late":
        chunks[3] = chunks[3].model_copy(update={"first": chunks[3].first + 1})
    if harm == "of another life":
        chunks = [chunk.model_copy(update={"base": 77}) for chunk in chunks]
    await store.snapshots.save([Saving(S, snapshot, chunks)])

    loaded = await load(store, S)

    assert loaded.state == session.state
    assert loaded.saved == NOTHING_SAVED  # so the next one writes every chunk anew


@pytest.mark.parametrize("harm", ["its entry is not there", "its entry is newer than it"])
async def test_a_snapshot_of_a_session_that_was_buried_is_passed_over(
    load: Load, store: MemoryStore, harm: str
) -> None:
    old, new = Session(S), Session(S)
    talk(old, 2)
    new.now_ms = 50_000
    talk(new, 1 if harm == "its entry is not there" else 3)
    await store.snapshots.save([Saving(S, *written(old))])
    store.log.apply(new.rows)

    loaded = await load(store, S)

    assert loaded.state == new.state


async def test_a_session_goes_on_behind_a_snapshot_that_the_first_look_reaches(load: Load, store: MemoryStore) -> None:
    session = Session(S)
    talk(session, 3)
    snapshot, chunks = written(session)
    assert not chunks
    await store.snapshots.save([Saving(S, snapshot, chunks)])
    talk(session, FIRST)
    store.log.apply(session.rows)

    loaded = await load(store, S)

    assert loaded.state == session.state
    assert loaded.saved == saved_by(snapshot)


async def test_chunks_are_kept_while_a_tail_is_read_in_pages(load: Load, store: MemoryStore, session: Session) -> None:
    snapshot, chunks = written(session)
    await store.snapshots.save([Saving(S, snapshot, chunks)])
    session.add(session.claim())
    for _ in range(PAGE):
        session.add(session.settle(session.new("t")))
    store.log.apply(session.rows[-PAGE - 1 :])

    loaded = await load(store, S)

    assert loaded.state == session.state
    assert loaded.saved == saved_by(snapshot)


async def test_a_session_whose_lowest_rows_were_swept_is_not_taken_for_a_new_one(
    load: Load, store: MemoryStore
) -> None:
    session = Session(S)
    talk(session, FIRST)
    session.add(session.close())
    session.add(session.open())
    store.log.apply(session.rows[-2:])

    state = (await load(store, S)).state

    assert (state.version, state.opened, state.base) == (2 * FIRST + 2, session.state.opened, 2 * FIRST + 2)


async def test_long_tails_are_read_in_pages(load: Load, store: MemoryStore) -> None:
    session = Session(S)
    talk(session, 3)
    session.add(session.claim())
    for _ in range(2 * PAGE):
        session.add(session.settle(session.new("t")))
    store.log.apply(session.rows)

    assert (await load(store, S)).state == session.state
    assert await read_on(store, S, EMPTY) == session.state


async def test_reading_on_takes_only_what_is_new(load: Load, store: MemoryStore, session: Session) -> None:
    warm = (await load(store, S)).state
    assert await read_on(store, S, warm) == warm
    talk(session, 1)
    rows: list[Row] = session.rows[-2:]
    store.log.apply(rows)
    for row in session.rows[:-2]:
        del store.log.rows[S, row.v]
    store.log._versions[S] = [row.v for row in rows]

    assert await read_on(store, S, warm) == session.state


async def test_a_delete_that_died_between_the_rows_and_the_snapshot_is_done_again(
    session: Session, store: MemoryStore, load: Load
) -> None:
    snapshot, chunks = snapshot_write(session.state, NOTHING_SAVED)
    await store.snapshots.save([Saving(S, snapshot, chunks)])
    talk(session, 1)
    close = session.add(session.close())
    store.log.apply(session.rows[-3:])
    await store.journal.unset(S, close.v)
    found = (await load(store, S)).state

    assert not found.wiped
    assert (await wipe(store, S, found)).wiped
    kept = await store.snapshots.load(S)
    assert kept is not None
    assert (kept.version, kept.items) == (close.v, ())
    assert (await load(store, S)).state.wiped
