"""`fleet up`: everything on this machine, in the foreground, until Ctrl-C. Owns signals, lock and what is printed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from fleet import leftovers
from fleet.data_dir import DataDir, DirectoryInUse
from fleet.exits import CommandError, Exit
from fleet.part import CannotStart, PartFailed
from fleet.progress import Progress
from fleet.registries import environ_of
from fleet.stack import Stack

LEFTOVERS_GRACE_S = 5.0


class Up:
    """One `fleet up`."""

    def __init__(self, data: Path, *, workers: int, agents: Sequence[str] = ()) -> None:
        self._data = DataDir(data)
        self._console = Console(stderr=True)
        self._progress = Progress(self._console)
        self._stack = Stack(self._data, workers=workers, progress=self._progress, environ=environ_of(agents))
        self._stop = asyncio.Event()
        self._asked = 0

    async def run(self) -> Exit:
        """Until a signal comes, or a part cannot start."""
        try:
            with self._data.locked():
                return await self._locked()
        except DirectoryInUse as error:
            raise CommandError(Exit.NOT_STARTED, str(error)) from None

    async def _locked(self) -> Exit:
        self._listen()
        await end_leftovers(self._data.path)
        try:
            with self._progress:
                started = await self._started()
            if started:
                self._announce()
                await self._stop.wait()
            self._progress.say("stopping (Ctrl-C again: at once)")
            return Exit.OK
        finally:
            await self._stack.stop()
            await end_leftovers(self._data.path, grace_s=0.0)
            self._data.forget()

    async def _started(self) -> bool:
        """Whether everything is ready; no, when a signal came before."""
        start = asyncio.create_task(self._stack.start(), name="start")
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not start.done():
            start.cancel()
        results = await asyncio.gather(start, return_exceptions=True)
        if isinstance(results[0], asyncio.CancelledError):
            return False
        if isinstance(results[0], BaseException):
            raise first_cause(results[0])
        return True

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._signalled)

    def _signalled(self) -> None:
        self._asked += 1
        self._stop.set()
        if self._asked > 1:
            self._stack.kill()
            leftovers.signal_all(list(leftovers.marked(self._data.path)), signal.SIGKILL)
            self._data.forget()
            os._exit(Exit.INTERRUPTED)

    def _announce(self) -> None:
        how = "" if sys.argv[0].endswith(".py") else f" · in a second terminal: {sys.argv[0]} chat"
        print(f"Turnfleet is ready: {self._stack.address}{how} · Ctrl-C stops it", flush=True)


async def end_leftovers(data: Path, *, grace_s: float = LEFTOVERS_GRACE_S) -> None:
    """End what carries our mark: politely for `grace_s`, then for good."""
    pids = list(leftovers.marked(data))
    if not pids:
        return
    leftovers.signal_all(pids, signal.SIGTERM)
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + grace_s
    while pids := list(leftovers.marked(data)):
        if loop.time() >= deadline_s:
            leftovers.signal_all(pids, signal.SIGKILL)
        await asyncio.sleep(0.02)


def first_cause(error: BaseException) -> BaseException:
    """The first part that could not start, out of a group of failures."""
    while isinstance(error, BaseExceptionGroup):
        known = [inner for inner in error.exceptions if isinstance(inner, CannotStart | BaseExceptionGroup)]
        error = (known or list(error.exceptions))[0]
    return error


def explain(error: CannotStart, console: Console) -> None:
    """Which part, why, what to do, and the last lines of its log."""
    console.print(Text(f"fleet: {error.text}"), style="bold red", highlight=False, soft_wrap=True)
    console.print(Text(f"  what to do: {error.advice}"), highlight=False, soft_wrap=True)
    if isinstance(error, PartFailed) and error.tail:
        console.print(Text(f"  the last lines of {error.part.log}:"), highlight=False, soft_wrap=True)
        for line in error.tail:
            console.print(Text(f"    {line}"), style="dim", highlight=False, soft_wrap=True)


def up(data: Path, *, workers: int, agents: Sequence[str] = ()) -> Exit:
    """Runs until stopped; the exit code. `agents`: registries beside those of FLEET_AGENTS. Raises CommandError."""
    try:
        return asyncio.run(Up(data, workers=workers, agents=agents).run())
    except CannotStart as error:
        explain(error, Console(stderr=True))
        return Exit.NOT_STARTED
