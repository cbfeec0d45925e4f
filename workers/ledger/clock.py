"""Which hop a turn is in right now, and how long it has been in each. Knows no step and no model.

Calls may overlap: a moment belongs to one hop, the first in this order that anything of the turn is in. So the hops of
an attempt add up to its time, whatever ran side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import sub

MODEL, TOOLS, WRITE, AGENT = range(4)
"""A model call is in progress, else a tool call, else an entry is being written, else it is the agent's own code."""

Took = tuple[int, int, int, int]
"""Microseconds by hop, in this order."""


class HopClock:
    """One attempt's. `now_ns`: monotonic; `began_ns`: when the agent began, by the same clock."""

    __slots__ = ("_at_ns", "_now_ns", "_open", "_spent", "_told")

    def __init__(self, now_ns: Callable[[], int], began_ns: int) -> None:
        self._now_ns = now_ns
        self._at_ns = began_ns
        self._open = [0, 0, 0]
        self._spent = [0, 0, 0, 0]
        self._told: Took = (0, 0, 0, 0)

    def enter(self, hop: int) -> None:
        """A call of this hop begins."""
        self._settle()
        self._open[hop] += 1

    def leave(self, hop: int) -> None:
        """It is over, however."""
        self._settle()
        self._open[hop] -= 1

    def total(self) -> Took:
        """Since the agent began."""
        self._settle()
        model, tools, write, agent = self._spent
        return model // 1000, tools // 1000, write // 1000, agent // 1000

    def split(self) -> tuple[int, ...]:
        """Since the last split: what an entry says of the time until it; empty for none."""
        last, now = self._told, self.total()
        self._told = now
        return tuple(map(sub, now, last)) if now != last else ()

    def _settle(self) -> None:
        now_ns, busy = self._now_ns(), self._open
        self._spent[0 if busy[0] else 1 if busy[1] else 2 if busy[2] else 3] += now_ns - self._at_ns
        self._at_ns = now_ns
