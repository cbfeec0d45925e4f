"""Running turns are limited: who has a slot, who waits for one, who is held back. First come, first served; one turn a
time each.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from enum import IntEnum
from typing import Protocol


class Standing(IntEnum):
    """What is held against a turn: nothing; a process ended while it ran there; one more such try and it is out."""

    CLEAR = 0
    SUSPECT = 1
    LAST_TRY = 2


class Seeker(Protocol):
    """Whoever wants a slot."""

    @property
    def key(self) -> str: ...

    def slot_granted(self) -> None: ...

    def held(self) -> bool: ...

    def standing(self) -> Standing: ...


class Slots:
    """`count` slots. After `close` none is granted any more; those who have one keep it. `gated`: seekers are asked
    whether they are held back, each time a slot is there for them.

    A turn on its last try runs beside no other suspect until it came on by a step or is over: what ends its process for
    the last time takes nobody with it that was only near, and no other one that ends processes takes it. Suspects make
    way for a last try that waits; turns that are clear wait for nobody. `alone`: whose last try it is.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.free = count
        self.closed = False
        self.gated = False
        self.alone: str | None = None
        self._suspects: set[str] = set()
        self._last_tries_held: set[str] = set()
        self._queue: OrderedDict[str, Seeker] = OrderedDict()
        self._held: OrderedDict[str, Seeker] = OrderedDict()
        self._holders: set[str] = set()
        self._all_free = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many sessions wait."""
        return len(self._queue)

    @property
    def held(self) -> int:
        """How many sessions are held back."""
        return len(self._held)

    def has(self, key: str) -> bool:
        """Whether this session has one."""
        return key in self._holders

    def want(self, seeker: Seeker) -> None:
        """Grant one now (by a call back, before this returns) or queue."""
        if self.free > 0 and not self.closed:
            self._grant(seeker)
        else:
            self._queue[seeker.key] = seeker

    def offer(self, *, gated: bool) -> None:
        """What holds seekers back has changed: ask them again, the oldest first."""
        self.gated = gated
        waiting, self._queue, self._held = self._queue, self._held, OrderedDict()
        self._queue.update(waiting)
        self._last_tries_held.clear()
        self._next()

    def give_back(self, key: str) -> None:
        """The session has no use for its slot, or for its place in the queue."""
        if key in self._holders:
            self._holders.remove(key)
            self.free += 1
            self.eased(key)
            self._next()
            if self.closed and not self._holders:
                self._all_free.set()
        elif self._queue.pop(key, None) is None and self._held.pop(key, None) is not None:
            self._last_tries_held.discard(key)

    def eased(self, key: str) -> None:
        """The session's turn is over, or came on by a step: nothing is held against it any more."""
        if key not in self._suspects:
            return
        self._suspects.remove(key)
        if self.alone == key:
            self.alone = None
        if self._held and not self._suspects:
            self.offer(gated=self.gated)

    def close(self) -> None:
        """Grant no more: the worker drains."""
        self.closed = True
        if not self._holders:
            self._all_free.set()

    async def all_free(self) -> None:
        """After `close`: wait until the last one is given back."""
        await self._all_free.wait()

    def _next(self) -> None:
        while self.free > 0 and self._queue and not self.closed:
            _, seeker = self._queue.popitem(last=False)
            self._grant(seeker)

    def _grant(self, seeker: Seeker) -> None:
        if self._must_wait(seeker):
            self._held[seeker.key] = seeker
            return
        self.free -= 1
        self._holders.add(seeker.key)
        seeker.slot_granted()

    def _must_wait(self, seeker: Seeker) -> bool:
        if self.gated and seeker.held():
            return True
        standing = seeker.standing()
        if standing is Standing.CLEAR:
            return False
        if standing is Standing.LAST_TRY:
            if self._suspects:
                self._last_tries_held.add(seeker.key)
                return True
            self.alone = seeker.key
        elif self.alone is not None or self._last_tries_held:
            return True
        self._suspects.add(seeker.key)
        return False
