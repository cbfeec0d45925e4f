"""Stored rows and snapshots to a session's state, and back. Pure; knows of unset content, nothing of stores."""

from __future__ import annotations

from collections.abc import Iterable

from journal.content import has_content, stays
from journal.fold import REMEMBERED_OPS, FoldError, fold, ring, without
from journal.history import History
from journal.port import Row
from journal.state import State
from schemas.entries import Close, ControlNote, entry_of
from schemas.receipt import Spending
from schemas.snapshot import AheadCancel, Chunk, SeenOp, Snapshot


def fold_rows(state: State, rows: Iterable[Row]) -> State:
    """Fold stored rows: all that follow `state`, up to the newest (not one page of them).

    What lies before the last CLOSE and is unset or dropped in part counts only by its keys. Where `state` lived, it is
    not known to be wiped: it may come from a snapshot that still holds what the CLOSE is to remove, for whoever closed
    may have died between unsetting the rows and replacing the snapshot.
    """
    listed = list(rows)
    last_close = next((i for i in range(len(listed) - 1, -1, -1) if listed[i].kind == "close"), None)
    dropped = bool(listed) and listed[0].v > state.version + 1 and (last_close is not None or state.version == 0)
    if dropped:
        state = state._replace(version=listed[0].v - 1)
    if last_close is None:
        return _fold_plain(state, listed)
    before, after = listed[:last_close], listed[last_close:]
    hollow = dropped or any(row.body is None for row in before)
    lived = state.version > (state.closed.version if state.closed else 0)
    left = any(map(has_content, before)) or lived
    state = _fold_hollow(state, before) if hollow else _fold_plain(state, before)
    state = _fold_plain(state, after[:1])._replace(wiped=not left)
    return _fold_plain(state, after[1:])


def snapshot_of(state: State) -> Snapshot:
    """The state at rest, as it is stored. Raises FoldError when it is not at rest."""
    if not state.at_rest:
        raise FoldError("a snapshot is taken at rest only")
    return Snapshot(
        version=state.version,
        base=state.base,
        opened=state.opened,
        turns=state.turns,
        last_ms=state.last_ms,
        chunks=state.history.chunk_count,
        sealed=state.history.sealed_items,
        items=state.history.tail(),
        over=state.over,
        ops=state.ops,
        ahead=state.ahead,
        closed=state.closed,
        kept=dict(state.kept),
        spent=state.spent,
    )


def state_of(snapshot: Snapshot, chunks: Iterable[Chunk]) -> State:
    """The state that a snapshot and its chunks hold; later rows are folded on top."""
    return State(
        version=snapshot.version,
        base=snapshot.base,
        opened=snapshot.opened,
        history=History.of((chunk.items for chunk in chunks), snapshot.items),
        turns=snapshot.turns,
        last_ms=snapshot.last_ms,
        ended_turns={ended.turn: ended for ended in snapshot.over},
        ops=snapshot.ops,
        ahead=snapshot.ahead,
        closed=snapshot.closed,
        kept=snapshot.kept,
        spent=snapshot.spent,
    )


def _fold_plain(state: State, rows: list[Row]) -> State:
    for row in rows:
        if row.body is None:
            raise FoldError(f"{row.s} version {row.v}: content unset, but no CLOSE follows")
        state = fold(state, row.v, entry_of(row.kind, row.body, row.frames))
    return state


def _fold_hollow(state: State, rows: list[Row]) -> State:
    """Rows whose content is going: only ids, earlier CLOSEs and cancels that came ahead are taken."""
    came = {turn.turn for turn in state.begun} | {parked.turn for parked in state.parked}
    for row in rows:
        if row.v != state.version + 1:
            raise FoldError(f"{row.s} version {row.v} after {state.version}: a gap")
        entry = entry_of(row.kind, row.body) if row.body is not None and stays(row) else None
        if isinstance(entry, Close):
            state = fold(state, row.v, entry)
            continue
        if row.turn is not None:
            came.add(row.turn)
        state = _hollow_row(state, row, entry if isinstance(entry, ControlNote) else None, came)
    return state._replace(open=None, parked=(), opened=None, quarantine=None, kept={}, spent=Spending(), aside=())


def _hollow_row(state: State, row: Row, cancel: ControlNote | None, came: set[str]) -> State:
    ops, ahead = state.ops, without(state.ahead, row.turn) if row.turn else state.ahead
    if row.op is not None:
        ops = ring(ops, SeenOp(op=row.op, turn=cancel.turn if cancel else None, version=row.v), REMEMBERED_OPS)
    if cancel is not None and cancel.turn not in came:
        ahead = (*ahead, AheadCancel(turn=cancel.turn, user=cancel.user, op=cancel.op))
    return state._replace(version=row.v, last_ms=max(state.last_ms, row.at_ms), ops=ops, ahead=ahead)
