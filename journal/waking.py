"""Which turns of a session somebody has to look at when their records are gone with their topic. Pure; no store."""

from __future__ import annotations

from collections.abc import Iterable

from journal.port import Row
from schemas.entries import Close, Entry, Finish, Settle, entry_of


def to_wake(rows: Iterable[Row], since_ms: int, now_ms: int) -> list[tuple[str, int]]:
    """Turns of one session, given all its rows, each with the moment at which it is due: first those that ended at
    `since_ms` or later (their frames may not be out), in the order of their ends, then those that are not over."""
    going: dict[str, None] = {}
    ended: dict[str, int] = {}
    last_ms = 0
    for row in rows:
        entry = entry_of(row.kind, row.body, row.frames) if row.body is not None else None
        if entry is None:
            continue  # unset by a CLOSE: what it introduced is over, and its frame is gone
        over = _ended(entry)
        for turn in over:
            going.pop(turn, None)
            if row.at_ms >= since_ms:
                last_ms = ended[turn] = max(row.at_ms, last_ms + 1)
        if row.turn is not None and row.turn not in over and row.kind != "control":  # what steers is over with its turn
            going[row.turn] = None
    return [*ended.items(), *((turn, max(now_ms, last_ms + 1)) for turn in going)]


def _ended(entry: Entry) -> tuple[str, ...]:
    if isinstance(entry, Close):
        return entry.ended
    if isinstance(entry, Finish):
        return (entry.turn, *entry.joined)
    return (entry.turn,) if isinstance(entry, Settle) else ()
