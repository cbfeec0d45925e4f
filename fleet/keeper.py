"""Keeps one part running: starts it, waits until it is ready, starts it again when it ends by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from fleet.part import CannotStart, Part, PartFailed, Run, describe

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
HEALTHY_S = 20.0
BEREAVED_S = 5.0
STUCK_S = 20.0
UNTOLD_S = 1.0


class Keeper:
    """Owns the runs of one part. `say` gets a sentence for people; `changed` is called when the process is another."""

    def __init__(
        self, part: Part, *, environ: Mapping[str, str], say: Callable[[str], None], changed: Callable[[], None]
    ) -> None:
        self.part = part
        self.run: Run | None = None
        self.restarts = 0
        self._environ = environ
        self._say = say
        self._changed = changed
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """The first start: ready when this returns. Raises PartFailed; nothing runs then."""
        run = self.run = await Run.start(self.part, self._environ)
        try:
            await run.until_ready(timeout_s=self.part.start_timeout_s)
        except BaseException:
            await run.stop()
            raise
        self._changed()
        self._task = asyncio.create_task(self._keep(run), name=f"keep {self.part.name}")

    async def stop(self) -> None:
        """Stop the part for good. Safe to call twice and while it starts."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.run is not None:
            await self.run.stop()

    def kill(self) -> None:
        """Stop the part at once, without its consent."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
        if self.run is not None:
            self.run.kill()

    async def _keep(self, run: Run) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            code = await run.until_ended()
            run.kill()  # whatever it had started
            if time.monotonic() - run.started_s > HEALTHY_S:
                pause_s = FIRST_PAUSE_S
            self._say(f"{self.part.title} ended {describe(code)}; starting it again ({self.part.log})")
            told = code == 0 or await self._tell()  # one that ended in order has told them
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            run = await self._again(told)

    async def _ready_at_last(self, run: Run, told: bool) -> None:
        """Wait as long as it lives; whom its death concerned is told again while it does not get ready, at once if that
        failed: they may have missed it, and hold up the group that it wants to join."""
        while True:
            try:
                return await run.until_ready(timeout_s=STUCK_S if told else UNTOLD_S)
            except PartFailed:
                if run.ended:
                    raise
            told = await self._tell()

    async def _tell(self) -> bool:
        """Others must know of the death; whether they could be told."""
        try:
            async with asyncio.timeout(BEREAVED_S):
                await self.part.bereaved()
        except Exception as error:  # noqa: BLE001 - the part is started again in any case
            self._say(f"{self.part.title} is gone and others could not be told: {str(error) or 'no answer in time'}")
            return False
        return True

    async def _again(self, told: bool) -> Run:
        """A run that was started and is ready, or has ended. One that lives is never given up for being slow: it may
        wait for another part."""
        run = self.run = await Run.start(self.part, self._environ)
        self.restarts += 1
        self._changed()
        try:
            await self._ready_at_last(run, told)
        except CannotStart as failure:
            self._say(f"{failure.text}; trying again")
            await run.stop()
        else:
            self._say(f"{self.part.title} is back (process id {run.pid})")
        return run
