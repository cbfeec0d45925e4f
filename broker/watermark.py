"""The offset up to which everything of one partition is done, for one assignment. Pure; knows nothing of Kafka."""

from __future__ import annotations

from collections import deque


class Watermark:
    """Tracks which received offsets are done and how far that is contiguous.

    Offsets come in rising order and may skip (compaction, transaction markers); they are done in any order. Every
    call is O(1) amortised. One instance belongs to one partition of one assignment: a new assignment, a new one.
    """

    __slots__ = ("_done", "_next", "_pending")

    def __init__(self, start: int) -> None:
        self._next = start
        self._pending: deque[int] = deque()
        self._done: set[int] = set()

    def received(self, offset: int) -> bool:
        """Take note of a record. False: this assignment has seen the offset before, nothing changed."""
        if offset < self._next:
            return False
        self._next = offset + 1
        self._pending.append(offset)
        return True

    def done(self, offset: int) -> None:
        """This record needs no more work. Twice is as good as once. ValueError: it was never received."""
        if offset >= self._next:
            raise ValueError(f"offset {offset} was never received: next is {self._next}")
        pending = self._pending
        if not pending or offset < pending[0]:
            return
        if offset != pending[0]:
            self._done.add(offset)
            return
        pending.popleft()
        done = self._done
        while done and pending and pending[0] in done:
            done.remove(pending.popleft())

    @property
    def position(self) -> int:
        """The next offset to commit: everything below it is done."""
        return self._pending[0] if self._pending else self._next

    @property
    def waiting(self) -> int:
        """How many received offsets are not yet below `position`."""
        return len(self._pending)
