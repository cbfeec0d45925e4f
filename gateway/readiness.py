"""Whether this gateway can take work now: asked when somebody asks, remembered for a moment. Knows ports only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

Check = Callable[[], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class Readings:
    """`faults`: by name, one sentence for each check that failed."""

    ready: bool
    faults: Mapping[str, str]


class Readiness:
    """`checks`: each gives None or what is wrong. One round at a time; its result holds for `fresh_s`.

    A check that does not answer within `wait_s` counts as failed and is left to end by itself.
    """

    def __init__(
        self, checks: Mapping[str, Check], *, clock_s: Callable[[], float], fresh_s: float = 1.0, wait_s: float = 3.0
    ) -> None:
        self._checks = checks
        self._clock_s = clock_s
        self._fresh_s = fresh_s
        self._wait_s = wait_s
        self._running: dict[str, asyncio.Task[str | None]] = {}
        self._round: asyncio.Task[Readings] | None = None
        self._last: Readings | None = None
        self._last_s = 0.0

    async def read(self) -> Readings:
        """The state now, or as it was a moment ago."""
        if self._last is not None and self._clock_s() - self._last_s < self._fresh_s:
            return self._last
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._look(), name="readiness")
        return await asyncio.shield(self._round)

    async def stop(self) -> None:
        """End what is under way."""
        tasks: list[asyncio.Task[str | None] | asyncio.Task[Readings]] = [*self._running.values()]
        if self._round is not None:
            tasks.append(self._round)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> Readings:
        for name, check in self._checks.items():
            if name not in self._running:
                self._running[name] = asyncio.create_task(_asked(check), name=f"readiness {name}")
        await asyncio.wait(self._running.values(), timeout=self._wait_s)
        faults = {}
        for name, task in list(self._running.items()):
            fault = task.result() if task.done() else f"no answer within {self._wait_s:g} s"
            if task.done():
                del self._running[name]
            if fault is not None:
                faults[name] = fault
        self._last = Readings(not faults, faults)
        self._last_s = self._clock_s()
        return self._last


async def _asked(check: Check) -> str | None:
    try:
        return await check()
    except Exception as error:  # noqa: BLE001 - whatever is wrong, it is not ready
        return str(error) or type(error).__name__
