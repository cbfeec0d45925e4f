"""What of a stored row is content, and what outlives the CLOSE above it. Knows nothing of stores or folding."""

from __future__ import annotations

from journal.port import Row
from schemas.entries import ControlNote, entry_of


def stays(row: Row) -> bool:
    """Whether the row's body outlives a CLOSE: a CLOSE itself (it names what it ended) and a cancel, which holds
    nothing but ids and may be ahead of its turn. Frames never stay."""
    if row.kind == "close":
        return True
    if row.kind != "control" or row.turn is not None or row.body is None:
        return False
    entry = entry_of(row.kind, row.body)
    return isinstance(entry, ControlNote) and entry.kind == "cancel"


def has_content(row: Row) -> bool:
    """Whether there is something to unset in this row."""
    return bool(row.frames) or (row.body is not None and not stays(row))
