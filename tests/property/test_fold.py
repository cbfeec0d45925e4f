"""However a session is read, it is the same one: from entry 1, a snapshot or a warm state, unset or not."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from journal.content import has_content, stays
from journal.folding import fold_rows, snapshot_of, state_of
from journal.loader import load, read_on
from journal.memory import MemoryStore
from journal.port import Row, Saving
from journal.snapshotting import NOTHING_SAVED, saved_by, snapshot_write
from journal.state import EMPTY, State
from journal.wiping import wipe
from schemas.snapshot import Snapshot
from tests.support.entries import Session

CHOICES = st.lists(st.integers(0, 1_000), max_size=6) | st.lists(st.integers(0, 1_000), min_size=30, max_size=90)
SOME = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def unset(row: Row) -> Row:
    return row._replace(body=row.body if stays(row) else None, frames=())


def last_close(rows: list[Row]) -> int:
    """How many rows lie before the last CLOSE."""
    return max((n for n, row in enumerate(rows) if row.kind == "close"), default=0)


def core(state: State) -> State:
    """What must survive an unset: all but what is remembered of turns and ops of lives that are closed."""
    since = state.closed.version if state.closed else 0
    return state._replace(
        ended_turns={item.turn: item for item in state.over if item.version > since},
        ops=tuple(item.model_copy(update={"turn": None}) for item in state.ops),
        wiped=True,
    )


def bare(state: State) -> State:
    """What must survive a burial of what lies before the last CLOSE."""
    since = state.closed.version if state.closed else 0
    return core(state)._replace(
        ops=tuple(item for item in core(state).ops if item.version >= since),
        ahead=(),
    )


@SOME
@given(choices=CHOICES, long=st.booleans())
def test_a_snapshot_and_later_rows_are_all_rows(choices: list[int], long: bool) -> None:
    session, points = Session(long=long), []
    for choice in choices:
        session.act(choice)
        points.append(session.state)

    whole = fold_rows(EMPTY, session.rows)
    assert whole._replace(wiped=True) == session.state._replace(wiped=True)
    for state in (point._replace(wiped=True) for point in points):
        if not state.at_rest:
            continue
        snapshot, chunks = snapshot_write(state, NOTHING_SAVED)
        stored = Snapshot.model_validate_json(snapshot.model_dump_json(exclude_defaults=True))
        event(f"chunks: {min(len(chunks), 2)}")
        again = state_of(stored, chunks)
        assert again == state
        assert fold_rows(again, session.rows[state.version :])._replace(wiped=True) == whole._replace(wiped=True)


@SOME
@given(choices=CHOICES, share=st.floats(0, 1), warm=st.floats(0, 1))
def test_unset_rows_fold_to_the_same_session(choices: list[int], share: float, warm: float) -> None:
    session, points = Session(), [EMPTY]
    for choice in choices:
        session.act(choice)
        points.append(session.state)
    close = last_close(session.rows)
    gone = round(close * share)
    rows = [*map(unset, session.rows[:gone]), *session.rows[gone:]]
    from_here = points[round((len(points) - 1) * warm)]

    cold = fold_rows(EMPTY, rows)
    warmed = fold_rows(from_here, rows[from_here.version :])

    assert core(cold) == core(session.state)
    assert core(warmed) == core(session.state)
    left = any(map(has_content, rows[:close]))
    event(f"left: {left}, close: {close > 0}")
    assert cold.wiped is not left
    assert not (warmed.wiped and left and from_here.version <= close)


@SOME
@given(choices=CHOICES, share=st.floats(0, 1))
def test_dropped_rows_leave_the_same_session(choices: list[int], share: float) -> None:
    session = Session()
    for choice in choices:
        session.act(choice)
    close = last_close(session.rows)
    gone = round(close * share)
    rows = [*map(unset, session.rows[gone:close]), *session.rows[close:]]

    state = fold_rows(EMPTY, rows)

    if rows:
        assert bare(state) == bare(session.state)


async def keep(choices: list[int], deeds: list[int], long: bool) -> None:
    session, store, saved = Session(long=long), MemoryStore(), NOTHING_SAVED
    warm = EMPTY
    for choice, deed in zip(choices, deeds, strict=False):
        row = session.act(choice)
        store.log.apply([row])
        if deed == 1 and not session.state.wiped:
            session.state = await wipe(store, session.s, session.state)
        if deed == 2 and session.state.at_rest:
            snapshot, chunks = snapshot_write(session.state, saved)
            await store.snapshots.save([Saving(session.s, snapshot, chunks)])
            saved = saved_by(snapshot)
        if deed == 3:
            warm = await read_on(store, session.s, warm)
            assert core(warm) == core(session.state)
        if deed == 4:
            loaded = await load(store, session.s)
            event(f"snapshot used: {loaded.saved.version > 0}")
            assert core(loaded.state) == core(session.state)
            assert loaded.tail_bytes == sum(
                row.size for row in await store.journal.read(session.s, loaded.saved.version)
            )
    assert core((await load(store, session.s)).state) == core(session.state)
    assert core(await read_on(store, session.s, warm)) == core(session.state)
    if session.state.at_rest:
        assert state_of(snapshot_of(session.state), snapshot_write(session.state, NOTHING_SAVED)[1]) == session.state


@SOME
@given(choices=CHOICES, deeds=st.lists(st.integers(0, 4), min_size=90, max_size=90), long=st.booleans())
def test_what_is_loaded_is_what_was_written(choices: list[int], deeds: list[int], long: bool) -> None:
    asyncio.run(keep(choices, deeds, long))
