"""How many calls a worker makes to a provider at a time; the others wait in order. Knows no adapter, no deadline."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from schemas.settings import provider_of


class Places:
    """`limits`: by provider, `*` for each not named; 0 or missing: as many as come. `waiting`: calls that wait."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = dict(limits)
        self._taken: dict[str, int] = {}
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def free(self, model: str) -> bool:
        """Whether a call to the model's provider would begin at once."""
        provider = provider_of(model)
        limit = self._limit(provider)
        return not limit or self._taken.get(provider, 0) < limit

    @asynccontextmanager
    async def one(self, model: str) -> AsyncIterator[None]:
        """A place at the model's provider, in the order in which they were asked for."""
        provider = provider_of(model)
        if not self._limit(provider):
            yield
            return
        if self.free(model):
            self._taken[provider] = self._taken.get(provider, 0) + 1
        else:
            await self._turn(provider)
        try:
            yield
        finally:
            self._leave(provider)

    async def _turn(self, provider: str) -> None:
        """Wait for the place of somebody who leaves: it is handed over, so that nobody slips in between."""
        queue = self._queues.setdefault(provider, deque())
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter in queue:
                queue.remove(waiter)
            elif waiter.done() and not waiter.cancelled():
                self._leave(provider)  # it was handed over while its waiter was cancelled
            raise

    def _leave(self, provider: str) -> None:
        queue = self._queues.get(provider)
        while queue:
            waiter = queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._taken[provider] -= 1

    def _limit(self, provider: str) -> int:
        return self._limits.get(provider, self._limits.get("*", 0))
