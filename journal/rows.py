"""Entries to rows. Knows both shapes; no store."""

from __future__ import annotations

from journal.port import Row
from schemas.entries import Close, Entry, Finish, Settle, Suspend, body_of


def row_of(s: str, version: int, entry: Entry, nonce: str) -> Row:
    """`entry` as number `version` of session `s`. `nonce`: unique for every append of every worker."""
    frames = entry.frames if isinstance(entry, _FRAMED) else ()
    return Row(s, version, entry.k, nonce, entry.at_ms, entry.introduces, entry.op_id, body_of(entry), frames)


_FRAMED = (Finish, Settle, Suspend, Close)
