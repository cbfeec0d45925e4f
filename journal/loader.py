"""A session's state from the store: latest snapshot and later entries, or every entry. It writes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from journal.folding import fold_rows, state_of
from journal.port import Journal, Row, Store
from journal.snapshotting import NOTHING_SAVED, Saved, saved_by
from journal.state import EMPTY, State
from schemas.snapshot import Chunk, Snapshot

PAGE = 1_000


class Loaded(NamedTuple):
    """`saved`: what the stored snapshot covers; `tail_bytes`: of the entries after it."""

    state: State
    saved: Saved
    tail_bytes: int


async def load(store: Store, s: str) -> Loaded:
    """The state of `s` now, by majority reads. A session that was never written has version 0.

    A snapshot that does not fit the journal or its chunks is passed over: folding from version 1 gives the same.
    Raises StoreUnavailable, FoldError.
    """
    snapshot = await store.snapshots.load(s)
    if snapshot is not None:
        chunks, rows = await asyncio.gather(
            store.snapshots.chunks(s, snapshot.base, snapshot.chunks) if snapshot.chunks else _no_chunks(),
            rows_after(store.journal, s, snapshot.version - 1),
        )
        if _anchored(snapshot, rows) and _whole(snapshot, chunks):
            return _folded(state_of(snapshot, chunks), saved_by(snapshot), rows[1:])
    return _folded(EMPTY, NOTHING_SAVED, await rows_after(store.journal, s, 0))


async def read_on(store: Store, s: str, state: State) -> State:
    """`state` and what was written since. Raises StoreUnavailable, FoldError."""
    return fold_rows(state, await rows_after(store.journal, s, state.version))


async def rows_after(journal: Journal, s: str, after: int) -> list[Row]:
    """Every row with a higher version, in pages."""
    rows = page = await journal.read(s, after, PAGE)
    while len(page) == PAGE:
        page = await journal.read(s, page[-1].v, PAGE)
        rows = rows + page
    return rows


def _folded(state: State, saved: Saved, rows: Sequence[Row]) -> Loaded:
    return Loaded(fold_rows(state, rows), saved, sum(row.size for row in rows))


def _anchored(snapshot: Snapshot, rows: Sequence[Row]) -> bool:
    """Whether the entry that the snapshot ends with is there: else it belongs to a session that was buried, whose
    versions may have begun again."""
    return bool(rows) and rows[0].v == snapshot.version and rows[0].at_ms <= snapshot.last_ms


def _whole(snapshot: Snapshot, chunks: Sequence[Chunk]) -> bool:
    """Whether the chunks are those that the snapshot was cut with: none missing, no gap, no overlap."""
    if len(chunks) != snapshot.chunks:
        return False
    items = 0
    for index, chunk in enumerate(chunks):
        if (chunk.index, chunk.first) != (index, items):
            return False
        items += len(chunk.items)
    return items == snapshot.sealed


async def _no_chunks() -> list[Chunk]:
    return []
