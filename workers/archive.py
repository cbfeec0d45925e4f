"""What is stored of one session's state and what has grown since: when a snapshot is due, and what it holds."""

from __future__ import annotations

from journal.port import Saving
from journal.snapshotting import NOTHING_SAVED, Saved, grown, saved_by, snapshot_due, snapshot_write
from journal.state import State


class Archive:
    """`tail_bytes`: of the entries since what is `saved`."""

    __slots__ = ("_before", "_covered", "_saving", "saved", "tail_bytes")

    def __init__(self) -> None:
        self.saved: Saved = NOTHING_SAVED
        self.tail_bytes = 0
        self._saving = False
        self._covered = 0
        self._before = NOTHING_SAVED

    def begin(self, saved: Saved = NOTHING_SAVED, tail_bytes: int = 0) -> None:
        """The state was loaded, or its content is gone."""
        self.saved, self.tail_bytes = saved, tail_bytes

    def near(self, least_bytes: int) -> bool:
        """The next state at rest should be stored: so its FINISH carries no CLAIM."""
        return grown(self.saved, self.tail_bytes, least_bytes)

    def take(self, state: State, least_bytes: int) -> bool:
        """Whether to write a snapshot of `state` now; `write` follows."""
        due = not self._saving and snapshot_due(state, self.saved, self.tail_bytes, least_bytes)
        if due:
            self._saving, self._covered = True, self.tail_bytes
        return due

    def begin_write(self, key: str, state: State) -> Saving:
        """After `take`: what is to be stored of `state`. `written` or `unwritten` follows."""
        self._before = self.saved
        snapshot, chunks = snapshot_write(state, self.saved)
        return Saving(key, snapshot, chunks)

    def written(self, saving: Saving) -> None:
        """It is stored. What the archive holds of a life that was wiped meanwhile stays as it is."""
        self._saving = False
        if self.saved is self._before:
            self.saved = saved_by(saving.snapshot)
            self.tail_bytes -= self._covered

    def unwritten(self) -> None:
        """The store does not answer: another one follows soon."""
        self._saving = False
