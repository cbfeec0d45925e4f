"""Running turns are limited: who has a slot, who waits for one. First come, first served; one turn a time each."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Protocol


class Seeker(Protocol):
    """Whoever wants a slot."""

    @property
    def key(self) -> str: ...

    def slot_granted(self) -> None: ...


class Slots:
    """`count` slots. After `close` none is granted any more; those who have one keep it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.free = count
        self.closed = False
        self._queue: OrderedDict[str, Seeker] = OrderedDict()
        self._holders: set[str] = set()
        self._all_free = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many sessions wait."""
        return len(self._queue)

    def want(self, seeker: Seeker) -> None:
        """Grant one now (by a call back, before this returns) or queue."""
        if self.free > 0 and not self.closed:
            self._grant(seeker)
        else:
            self._queue[seeker.key] = seeker

    def give_back(self, key: str) -> None:
        """The session has no use for its slot, or for its place in the queue."""
        if key in self._holders:
            self._holders.remove(key)
            self.free += 1
            self._next()
            if self.closed and not self._holders:
                self._all_free.set()
        else:
            self._queue.pop(key, None)

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
        self.free -= 1
        self._holders.add(seeker.key)
        seeker.slot_granted()
