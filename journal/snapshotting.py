"""When a snapshot is due and what it writes, so that its cost stays proportional to the entries. Pure; no store."""

from __future__ import annotations

from typing import NamedTuple

from journal.folding import snapshot_of
from journal.history import size_of, weight_of
from journal.state import State
from schemas.snapshot import Chunk, Snapshot

LEAST_BYTES = 65_536
FACTOR = 6  # entries that a snapshot waits for, in multiples of what the last one wrote anew
_ENDED_BYTES = 160
_OP_BYTES = 120
_REST_BYTES = 400


class Saved(NamedTuple):
    """What the stored snapshot covers: `version` (0: there is none), `chunks` full ones of the life `base`, and
    `bytes`, what the last snapshot had to write anew besides new chunks."""

    version: int = 0
    base: int = 0
    chunks: int = 0
    bytes: int = 0


NOTHING_SAVED = Saved()


def snapshot_due(state: State, saved: Saved, tail_bytes: int, least_bytes: int = LEAST_BYTES) -> bool:
    """Whether to write one now. `tail_bytes`: of the entries since `saved` (the sum of `Row.size`).

    Only at rest, and only when the entries have outgrown what the last snapshot wrote anew, several times: so however
    long the session grows, snapshots cost a sixth of the entries, and each history item is copied once.
    """
    return grown(saved, tail_bytes, least_bytes) and state.at_rest and state.version > saved.version


def grown(saved: Saved, tail_bytes: int, least_bytes: int = LEAST_BYTES) -> bool:
    """Whether the entries have outgrown what is saved: the next state at rest is to be stored."""
    return tail_bytes >= max(least_bytes, FACTOR * saved.bytes)


def snapshot_write(state: State, saved: Saved) -> tuple[Snapshot, list[Chunk]]:
    """The snapshot of a state at rest, and the chunks that are not stored yet. Raises FoldError when not at rest."""
    stored = saved.chunks if saved.base == state.base else 0
    history = state.history
    chunks = [
        Chunk(base=state.base, index=index, first=history.chunk_start(index), items=history.chunk(index))
        for index in range(stored, history.chunk_count)
    ]
    return snapshot_of(state), chunks


def saved_by(snapshot: Snapshot) -> Saved:
    """What is covered once this snapshot is stored."""
    ended, ops = len(snapshot.over), len(snapshot.ops) + len(snapshot.ahead)
    kept = weight_of(snapshot.kept)
    bytes_ = kept + sum(map(size_of, snapshot.items)) + ended * _ENDED_BYTES + ops * _OP_BYTES + _REST_BYTES
    return Saved(version=snapshot.version, base=snapshot.base, chunks=snapshot.chunks, bytes=bytes_)
