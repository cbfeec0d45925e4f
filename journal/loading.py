"""Cold sessions are loaded together: what is asked for at about the same time is read by one command. Writes nothing.

At most `in_flight` batches are out, each with one command at a time, and one begins at the earliest `pace_s` after the
one before: most of what a read costs is the round trip, so under load batches must grow. One that comes alone waits
for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import islice
from typing import Any

from journal.loader import Loaded, Material, material_of
from journal.port import Store

Spawn = Callable[[Coroutine[Any, Any, None], str], None]
_Waiters = list[asyncio.Future[Loaded]]
_FOLDS = 8  # between two turns of the loop


class Loading:
    """`await load(s)` anywhere in the loop. `spawn` runs a named task and hears of what it raises."""

    def __init__(
        self, store: Store, spawn: Spawn, *, most: int = 100, in_flight: int = 2, pace_s: float = 0.005
    ) -> None:
        self._store = store
        self._spawn = spawn
        self._most = most
        self._free = in_flight
        self._pace_s = pace_s
        self._loop = asyncio.get_running_loop()
        self._asked: dict[str, _Waiters] = {}
        self._next_s = 0.0
        self._scheduled = False

    def load(self, s: str) -> asyncio.Future[Loaded]:
        """What `journal.loader.load` says, read after this call. Raises StoreUnavailable (with the whole batch: ask
        again), FoldError."""
        waiter: asyncio.Future[Loaded] = self._loop.create_future()
        self._asked.setdefault(s, []).append(waiter)
        self._schedule()
        return waiter

    def _schedule(self) -> None:
        if self._scheduled or not self._free or not self._asked:
            return
        self._scheduled = True
        if self._loop.time() >= self._next_s:
            self._loop.call_soon(self._pump)
        else:
            self._loop.call_at(self._next_s, self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        some = {s: self._asked.pop(s) for s in list(islice(self._asked, self._most))}
        self._free -= 1
        self._next_s = self._loop.time() + self._pace_s
        self._spawn(self._carry(some), f"load {len(some)} sessions")
        self._schedule()

    async def _carry(self, some: Mapping[str, _Waiters]) -> None:
        """1. read 2. free the slot 3. fold and deliver, a few at a time. Nobody is left waiting."""
        try:
            try:
                material = await material_of(self._store, list(some))
            finally:
                self._free += 1
                self._schedule()
            await self._deliver(some, material)
        except Exception as error:  # noqa: BLE001  (whoever asked is told, and reads it)
            for waiters in some.values():
                _fail(waiters, error)
        finally:
            for waiters in some.values():
                _cancel(waiters)

    async def _deliver(self, some: Mapping[str, _Waiters], material: Mapping[str, Material]) -> None:
        for n, (s, waiters) in enumerate(some.items(), 1):
            try:
                loaded = material[s].folded()
            except Exception as error:  # noqa: BLE001  (one session's entries say nothing of the others)
                _fail(waiters, error)
                continue
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(loaded)
            if n % _FOLDS == 0:
                await asyncio.sleep(0)


def _fail(waiters: Sequence[asyncio.Future[Loaded]], error: Exception) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_exception(error)


def _cancel(waiters: Sequence[asyncio.Future[Loaded]]) -> None:
    for waiter in waiters:
        waiter.cancel()
