"""One timer for many streams: a wheel of slots, turned by a single loop timer. Knows no sockets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """What is needed of an event loop."""

    def time(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[], object], /) -> object: ...


class Turning(Protocol):
    """Something that the wheel calls when its time has come."""

    def advance(self, now_s: float) -> float | None:
        """Do what is due; the next moment on the loop's clock, or None when there is none."""


class Wheel:
    """Calls each member once its slot is over: never early, and late by at most `tick_s` on a free loop."""

    def __init__(self, loop: Clock, *, tick_s: float) -> None:
        self._loop = loop
        self._tick_s = tick_s
        self._slots: defaultdict[int, list[Turning]] = defaultdict(list)
        self._turned = 0
        self._timer: object | None = None

    def add(self, member: Turning, due_s: float) -> None:
        """Call `member.advance` at `due_s` on the loop's clock, or soon if that is past."""
        idle = self._timer is None
        if idle:
            self._turned = int(self._loop.time() / self._tick_s)
        self._slots[max(int(due_s / self._tick_s) + 1, self._turned + 1)].append(member)
        if idle:
            self._arm()

    def _arm(self) -> None:
        self._timer = self._loop.call_at((self._turned + 1) * self._tick_s, self._turn)

    def _turn(self) -> None:
        now_s = self._loop.time()
        current = int(now_s / self._tick_s)
        for slot in range(self._turned + 1, current + 1):
            self._turned = slot
            for member in self._slots.pop(slot, ()):
                due_s = member.advance(now_s)
                if due_s is not None:
                    self._slots[max(int(due_s / self._tick_s) + 1, current + 1)].append(member)
        if self._slots:
            self._arm()
        else:
            self._timer = None
