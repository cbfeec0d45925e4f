"""Workers that are started again when they end, as a supervisor does. Knows nothing of why they ended."""

from __future__ import annotations

import asyncio

from loadtest.bench import Bench, Product
from loadtest.processes import Child, PartFailed

LOOK_S = 0.05
NAME = "kept-"
"""The product's own worker must be started under this name and 0."""


class Kept:
    """`count` workers of a product, its own included, each under a name of its own that stays. `ended`: how often one
    had to be started again."""

    def __init__(self, bench: Bench, product: Product, count: int) -> None:
        self.ended = 0
        self._bench = bench
        self._product = product
        self._workers: list[Child] = [product.worker]
        self._count = count
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Kept:
        self._workers += [await self._again(place) for place in range(1, self._count)]
        self._tasks = [
            asyncio.create_task(self._keep(place), name=f"keep worker {place}") for place in range(self._count)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self._workers:
            await self._bench.stack.end(worker)

    async def _keep(self, place: int) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            if self._workers[place].ended:
                self.ended += 1
                await self._bench.stack.end(self._workers[place])
                try:
                    self._workers[place] = await self._again(place)
                except PartFailed:  # it ended before it was ready
                    continue

    async def _again(self, place: int) -> Child:
        return await self._bench.another(self._product, worker_name=f"{NAME}{place}")
