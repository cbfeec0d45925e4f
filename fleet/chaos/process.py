"""One process of the stack that may be broken: started, killed, frozen, started again. Knows not what it does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from loadtest.processes import Child, PartFailed

POLL_S = 0.1
PAUSE_S = 0.5
DRAIN_S = 30.0
REVIVE_S = 120.0

Ready = Callable[[Child], Awaitable[None]]


class Process:
    """`deaths`: where it ended though nobody had told it to, `suicides`: how often by a kill -9 that is none of ours;
    `busy`: a fault has hold of it; `bereaved`: told when it died, where others do not notice. Each life writes the same
    log."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        ready: Ready,
        bereaved: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.name = name
        self.deaths: list[str] = []
        self.suicides = 0
        self.busy = False
        self._command = list(command)
        self._env = dict(env)
        self._log = log
        self._ready = ready
        self._bereaved = bereaved
        self._child: Child | None = None
        self._wanted = False

    @property
    def child(self) -> Child:
        """The present life. Raises PartFailed between two."""
        if self._child is None:
            raise PartFailed(f"{self.name} is not running")
        return self._child

    @property
    def pid(self) -> int | None:
        """Of the present life; None between two."""
        return self._child.pid if self._child is not None else None

    async def start(self) -> None:
        """Start it and wait until it is ready. Raises PartFailed."""
        child = self._child = Child(self.name, self._command, env=self._env, log=self._log)
        await self._ready(child)
        self._wanted = True

    async def revive(self, for_s: float = REVIVE_S) -> None:
        """Start it until it is ready: what it needs may be away itself, and then it ends at once, as a supervisor knows
        it. Raises PartFailed when that did not help for so long."""
        end_s = time.monotonic() + for_s
        while True:
            try:
                return await self.start()
            except PartFailed:
                if self._child is not None:
                    await self._child.stop()
                if time.monotonic() > end_s:
                    raise
                await asyncio.sleep(PAUSE_S)

    async def kill(self) -> None:
        """kill -9."""
        self._wanted = False
        child, self._child = self.child, None
        _tell(child, signal.SIGKILL)
        await child.stop()
        await self._mourn()

    async def drain(self) -> int:
        """SIGTERM; its exit code, after at most 30 s."""
        self._wanted = False
        child, self._child = self.child, None
        return await child.stop(DRAIN_S)

    def freeze(self) -> None:
        """SIGSTOP."""
        _tell(self.child, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        if self._child is not None:
            _tell(self._child, signal.SIGCONT)

    async def watch(self) -> None:
        """Start it again whenever it ends though nobody wanted that; runs until cancelled. Raises PartFailed."""
        while True:
            await asyncio.sleep(POLL_S)
            child = self._child
            if self._wanted and not self.busy and child is not None and child.ended:
                self.busy, self._wanted = True, False
                code = await child.wait(1.0)
                if code == -signal.SIGKILL:
                    self.suicides += 1
                else:
                    self.deaths.append(str(child.failure(f"ended by itself with {code}")))
                await self._mourn()
                await self.revive()
                self.busy = False

    async def end(self) -> None:
        """For good; a frozen one as well."""
        self._wanted = False
        child, self._child = self._child, None
        if child is not None:
            _tell(child, signal.SIGCONT)
            await child.stop(5.0)

    async def _mourn(self) -> None:
        if self._bereaved is not None:
            await self._bereaved()


def _tell(child: Child, number: signal.Signals) -> None:
    """Send a signal; one that has just ended by itself hears none."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, number)
