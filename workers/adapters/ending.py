"""What ends a turn while a framework runs its agent. Knows no framework.

A framework wraps, logs, retries or swallows what is raised inside it, and tells it its model. What ends the turn is
therefore kept here and ends the run from outside: whoever met it waits to be cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class Ending:
    """Of one run."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._error: asyncio.Future[BaseException] = self._loop.create_future()

    async def do(self, step: Awaitable[T]) -> T:
        """What `step` raises ends the turn."""
        try:
            return await step
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 (it is raised by `result_of`)
            await self.end(error)

    async def end(self, error: BaseException) -> NoReturn:
        """End the turn with `error`; the first one counts."""
        if not self._error.done():
            self._error.set_result(error)
        await self._loop.create_future()
        raise AssertionError  # nobody sets a result

    @property
    def over(self) -> bool:
        return self._error.done()

    async def result_of(self, run: asyncio.Task[T]) -> T:
        """What the run came to. Raises what ended it."""
        waited: set[asyncio.Future[Any]] = {run, self._error}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not run.done():
                run.cancel()
                await asyncio.wait({run})
        if not self._error.done():
            return run.result()
        if not run.cancelled():
            run.exception()  # it is nobody's business any more
        raise self._error.result()
