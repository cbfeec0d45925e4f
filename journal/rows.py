"""Entries to rows. Knows both shapes; no store."""

from __future__ import annotations

from journal.port import Row
from schemas.entries import Entry, body_of


def row_of(s: str, version: int, entry: Entry, nonce: str) -> Row:
    """`entry` as number `version` of session `s`. `nonce`: unique for every append of every worker."""
    frames: tuple[str, ...] = getattr(entry, "frames", ())
    return Row(
        s=s,
        v=version,
        kind=entry.k,
        nonce=nonce,
        at_ms=entry.at_ms,
        turn=entry.introduces,
        op=entry.op_id,
        body=body_of(entry),
        frames=frames,
    )
