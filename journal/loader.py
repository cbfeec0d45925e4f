"""A session's state from the store: latest snapshot and later entries, or every entry. It writes nothing.

Many sessions are read together, and one alone in the same way: see `material_of`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from journal.folding import fold_rows, state_of
from journal.port import Journal, Row, Store, Wanted
from journal.snapshotting import NOTHING_SAVED, Saved, saved_by
from journal.state import EMPTY, State
from schemas.snapshot import Chunk, Snapshot

PAGE = 1_000
FIRST = 16  # rows a session for which the first look has room: short sessions are loaded by it, a snapshot wastes them


class Loaded(NamedTuple):
    """`saved`: what the stored snapshot covers; `tail_bytes`: of the entries after it."""

    state: State
    saved: Saved
    tail_bytes: int


class Material(NamedTuple):
    """What a session is folded from. `snapshot` fits the journal and its chunks; None: `rows` are all that there are.
    Else `rows` are those after it."""

    rows: Sequence[Row]
    snapshot: Snapshot | None = None
    chunks: Sequence[Chunk] = ()

    def folded(self) -> Loaded:
        """Raises FoldError."""
        if self.snapshot is None:
            state, saved = EMPTY, NOTHING_SAVED
        else:
            state, saved = state_of(self.snapshot, self.chunks), saved_by(self.snapshot)
        return Loaded(fold_rows(state, self.rows), saved, sum(row.size for row in self.rows))


async def load(store: Store, s: str) -> Loaded:
    """The state of `s` now, by majority reads. A session that was never written has version 0.

    A snapshot that does not fit the journal or its chunks is passed over: folding from version 1 gives the same.
    Raises StoreUnavailable, FoldError.
    """
    return (await material_of(store, [s]))[s].folded()


async def material_of(store: Store, sessions: Sequence[str], page: int = PAGE) -> dict[str, Material]:
    """What each of up to 200 different sessions is folded from.

    1. their first rows and their snapshots: enough for new and short ones 2. the rows after a snapshot and its chunks,
    or the later rows 3. every row where a snapshot does not fit. Raises StoreUnavailable: for all of them.
    """
    pages, snapshots = await _first_look(store, sessions)
    found: dict[str, Material] = {}
    after: dict[str, int] = dict(pages.after)
    for s, snapshot in snapshots.items():
        tail = [row for row in pages.rows[s] if row.v >= snapshot.version]
        if s not in pages.after and _anchored(snapshot, tail) and _whole(snapshot, ()):
            found[s] = Material(tail[1:], snapshot)
        else:
            after[s] = snapshot.version - 1
    later, chunks = await _later(store, after, page, snapshots)
    unfit: dict[str, int] = {}
    for s in sessions:
        known = snapshots.get(s)
        if known is None:
            found[s] = Material(pages.rows[s] + later.get(s, []))
        elif s in later:
            if _anchored(known, later[s]) and _whole(known, chunks.get(s, [])):
                found[s] = Material(later[s][1:], known, chunks.get(s, ()))
            else:
                unfit[s] = 0
    whole, _ = await _later(store, unfit, page, {})
    return found | {s: Material(rows) for s, rows in whole.items()}


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


class _Pages:
    """Rows of many sessions, page by page. `after`: where those go on that are not whole yet."""

    def __init__(self, after: Mapping[str, int]) -> None:
        self.rows: dict[str, list[Row]] = {s: [] for s in after}
        self.after = dict(after)

    def add(self, page: Sequence[Row], limit: int) -> None:
        """A page that was read with this limit, in order of (s, v)."""
        for row in page:
            self.rows[row.s].append(row)
        if len(page) < limit:
            self.after = {}
            return
        last = page[-1]
        self.after = {s: last.v if s == last.s else v for s, v in self.after.items() if s >= last.s}


async def _first_look(store: Store, sessions: Sequence[str]) -> tuple[_Pages, dict[str, Snapshot]]:
    pages, limit = _Pages(dict.fromkeys(sessions, 0)), FIRST * len(sessions)
    seen = await store.fetch(Wanted(pages.after, limit, snapshots=sessions))
    pages.add(seen.rows, limit)
    return pages, seen.snapshots


async def _later(
    store: Store, after: Mapping[str, int], limit: int, snapshots: Mapping[str, Snapshot]
) -> tuple[dict[str, list[Row]], dict[str, list[Chunk]]]:
    """The rows after these versions, to the newest, and the chunks of these snapshots."""
    pages = _Pages(after)
    wanted = {s: (it.base, it.chunks) for s, it in snapshots.items() if s in after and it.chunks}
    chunks: dict[str, list[Chunk]] = {}
    while pages.after:
        seen = await store.fetch(Wanted(pages.after, limit, chunks=wanted))
        pages.add(seen.rows, limit)
        chunks, wanted = chunks | seen.chunks, {}
    return pages.rows, chunks


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
