"""A short line of what waits: first come, first served. Knows nothing of what stands in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


class Line(list[T]):
    """A session holds ten of these, nearly always empty: a deque keeps room for 64 from the start, 760 bytes instead of
    56. What stands in one is bounded (a mailbox has 16 places), so taking the first one is no loop worth its name."""

    __slots__ = ()

    def popleft(self) -> T:
        """Take the first. Raises IndexError."""
        return self.pop(0)

    def appendleft(self, item: T) -> None:
        """Put one in front."""
        self.insert(0, item)

    def extendleft(self, items: Iterable[T]) -> None:
        """Put each in front, one after the other, as a deque does."""
        for item in items:
            self.insert(0, item)
