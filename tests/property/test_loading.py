"""Whatever lies in the store, a batch says of each session what reading it alone, step by step, says."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from journal.folding import fold_rows, state_of
from journal.loader import Loaded, load, material_of, rows_after
from journal.memory import MemoryStore
from journal.port import Saving, Store
from journal.snapshotting import NOTHING_SAVED, saved_by, snapshot_write
from journal.state import EMPTY
from journal.wiping import wipe
from tests.support.entries import Session

SOME = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
DEED = st.tuples(st.integers(0, 1_000), st.integers(0, 12))
LIVES = st.lists(DEED, max_size=12) | st.lists(DEED, min_size=30, max_size=60)
PAGES = st.integers(1, 9) | st.just(1_000)
HARMS = st.sampled_from(["none"] * 5 + ["chunk", "stranger", "rows gone", "bottom dropped", "sealed"])


async def alone(store: Store, s: str) -> Loaded:
    """The contract in its plainest form: the snapshot, what belongs to it, else everything."""
    snapshot = await store.snapshots.load(s)
    if snapshot is not None:
        chunks = await store.snapshots.chunks(s, snapshot.base, snapshot.chunks)
        rows = await rows_after(store.journal, s, snapshot.version - 1)
        anchored = rows and rows[0].v == snapshot.version and rows[0].at_ms <= snapshot.last_ms
        starts = [sum(len(chunk.items) for chunk in chunks[:n]) for n in range(snapshot.chunks + 1)]
        cut = [(chunk.index, chunk.first) for chunk in chunks] == list(enumerate(starts[:-1]))
        if anchored and cut and starts[-1] == snapshot.sealed:
            size = sum(row.size for row in rows[1:])
            return Loaded(fold_rows(state_of(snapshot, chunks), rows[1:]), saved_by(snapshot), size)
    rows = await rows_after(store.journal, s, 0)
    return Loaded(fold_rows(EMPTY, rows), NOTHING_SAVED, sum(row.size for row in rows))


async def live(store: MemoryStore, s: str, life: list[tuple[int, int]], harm: str, long: bool) -> None:
    session, saved = Session(s, long=long), NOTHING_SAVED
    for choice, deed in life:
        store.log.apply([session.act(choice)])
        if deed == 1 and not session.state.wiped:
            session.state = await wipe(store, s, session.state)
        if deed in {2, 3} and session.state.at_rest:
            snapshot, chunks = snapshot_write(session.state, saved)
            if harm == "chunk":
                chunks = chunks[1:]
            if harm == "stranger":
                snapshot = snapshot.model_copy(update={"last_ms": 0})
            if harm == "sealed":
                snapshot = snapshot.model_copy(update={"sealed": snapshot.sealed + 1})
            await store.snapshots.save([Saving(s, snapshot, chunks)])
            saved = saved_by(snapshot)
    closed = session.state.closed
    if harm == "bottom dropped" and closed is not None:
        await store.journal.drop(s, closed.version, until_ms=1 << 50, limit=1_000)
    if harm == "rows gone":
        await store.journal.drop(s, 1 << 50, until_ms=1 << 50, limit=1_000)


async def compare(lives: list[tuple[list[tuple[int, int]], str, bool]], page: int) -> None:
    store, sessions = MemoryStore(), [f"t/s{n}" for n in range(len(lives))]
    for s, (life, harm, long) in zip(sessions, lives, strict=True):
        await live(store, s, life, harm, long)
    material = await material_of(store, sessions, page)
    assert set(material) == set(sessions)
    for s in sessions:
        expected = await alone(store, s)
        event(f"snapshot used: {expected.saved.version > 0}, chunks: {expected.saved.chunks > 0}")
        event(f"begins above the bottom: {min((v for t, v in store.log.rows if t == s), default=1) > 1}")
        assert material[s].folded() == expected
        assert await load(store, s) == expected


@SOME
@given(
    lives=st.lists(st.tuples(LIVES, HARMS, st.booleans()), min_size=1, max_size=6),
    page=st.integers(1, 9) | st.just(1_000),
)
def test_a_batch_says_what_one_by_one_says(lives: list[tuple[list[tuple[int, int]], str, bool]], page: int) -> None:
    asyncio.run(compare(lives, page))
