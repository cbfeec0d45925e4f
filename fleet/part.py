"""A part of `fleet up`: what to run and how to tell that it is ready; and one run of it as a child process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fleet.log_tail import readable_tail

CHILD = Path(__file__).with_name("child.py")
POLL_S = 0.02


async def _nothing() -> None:
    return


@dataclass(frozen=True, slots=True)
class Part:
    """One child process. `ready` is asked until it says yes; then `prepare` runs, at every start again.

    `bereaved` runs when the process ended by itself, before it is started again: what others must know of its death.
    `hints`: (text that the log may hold, what to do then). `dies_with`: what the kernel sends when we are killed.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    ready: Callable[[], Awaitable[bool]]
    port: int | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], Awaitable[None]] = _nothing
    bereaved: Callable[[], Awaitable[None]] = _nothing
    start_timeout_s: float = 30.0
    stop_timeout_s: float = 10.0
    hints: tuple[tuple[str, str], ...] = ()
    dies_with: signal.Signals = signal.SIGKILL

    @property
    def title(self) -> str:
        """Its name in a sentence: `the broker`, `worker 2`."""
        return self.name if self.name[-1].isdigit() else f"the {self.name}"


class CannotStart(Exception):
    """`text`: which part and why; `advice`: what to do."""

    def __init__(self, text: str, advice: str) -> None:
        super().__init__(text)
        self.text = text
        self.advice = advice


class PartFailed(CannotStart):
    """A part that was started is not there. `tail`: the last lines of its log."""

    def __init__(self, part: Part, text: str) -> None:
        super().__init__(f"{part.title} {text}", "")
        self.part = part
        self.tail = readable_tail(part.log)
        raw = "\n".join(readable_tail(part.log, lines=200))
        found = [advice for sign, advice in part.hints if sign in raw]
        self.advice = found[0] if found else f"read {part.log}; `fleet up` again once that is put right"


class Run:
    """One life of a part: started, ready, stopped. Everything that it starts is in its own session."""

    def __init__(self, part: Part, process: asyncio.subprocess.Process) -> None:
        self.part = part
        self._process = process
        self.started_s = time.monotonic()

    @classmethod
    async def start(cls, part: Part, environ: Mapping[str, str]) -> Run:
        """Start the process; it is not ready yet."""
        part.log.parent.mkdir(parents=True, exist_ok=True)
        launcher = (sys.executable, "-I", "-S", str(CHILD), str(os.getpid()), str(int(part.dies_with)))
        with part.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *launcher,
                *part.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                env={**environ, **part.environ},
            )
        return cls(part, process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    async def until_ready(self, *, timeout_s: float) -> None:
        """Wait until it is ready and prepared. Raises PartFailed; it may then still run."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await self.part.ready():
                    self._check_alive()
                    await asyncio.sleep(POLL_S)
                await self._prepared()
        except TimeoutError:
            raise PartFailed(self.part, f"was not ready within {timeout_s:g} s") from None

    async def until_ended(self) -> int:
        """The exit code; below 0: minus the signal that ended it."""
        return await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM, then after the part's bound SIGKILL; whatever it started goes with it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self.part.stop_timeout_s):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            self.kill()
        await self._process.wait()

    def kill(self) -> None:
        """SIGKILL to the process and to its group."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _prepared(self) -> None:
        """Run `prepare`, but no longer than the process lives."""
        ended = asyncio.ensure_future(self._process.wait())
        work = asyncio.ensure_future(self.part.prepare())
        try:
            await asyncio.wait({ended, work}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self._check_alive()
            await work
        except (CannotStart, asyncio.CancelledError):
            raise
        except Exception as error:
            raise PartFailed(self.part, f"runs but could not be prepared: {error}") from error
        finally:
            for task in (ended, work):
                task.cancel()
            await asyncio.gather(ended, work, return_exceptions=True)

    def _check_alive(self) -> None:
        code = self._process.returncode
        if code is not None:
            raise PartFailed(self.part, f"ended {describe(code)} before it was ready")


def describe(code: int) -> str:
    """An exit code in words."""
    return f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
