"""What is stored of one session's state and what has grown since: when a snapshot is due, and writing it."""

from __future__ import annotations

from journal.port import Snapshots, StoreUnavailable
from journal.snapshotting import NOTHING_SAVED, Saved, saved_by, snapshot_due, snapshot_write
from journal.state import State


class Archive:
    """`tail_bytes`: of the entries since what is `saved`."""

    __slots__ = ("_covered", "_saving", "saved", "tail_bytes")

    def __init__(self) -> None:
        self.saved: Saved = NOTHING_SAVED
        self.tail_bytes = 0
        self._saving = False
        self._covered = 0

    def begin(self, saved: Saved = NOTHING_SAVED, tail_bytes: int = 0) -> None:
        """The state was loaded, or its content is gone."""
        self.saved, self.tail_bytes = saved, tail_bytes

    def near(self, least_bytes: int) -> bool:
        """The next state at rest should be stored: so its FINISH carries no CLAIM."""
        return self.tail_bytes >= max(least_bytes, self.saved.bytes)

    def take(self, state: State, least_bytes: int) -> bool:
        """Whether to write a snapshot of `state` now; `write` follows."""
        due = not self._saving and snapshot_due(state, self.saved, self.tail_bytes, least_bytes)
        if due:
            self._saving, self._covered = True, self.tail_bytes
        return due

    async def write(self, snapshots: Snapshots, key: str, state: State) -> bool:
        """Store it; False where the store does not answer: another one follows soon."""
        covered, before = self._covered, self.saved
        snapshot, chunks = snapshot_write(state, before)
        try:
            await snapshots.save(key, snapshot, chunks)
        except StoreUnavailable:
            return False
        finally:
            self._saving = False
        if self.saved is not before:
            return False
        self.saved = saved_by(snapshot)
        self.tail_bytes -= covered
        return True
