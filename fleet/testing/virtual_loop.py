"""An event loop whose clock jumps to the next timer when nothing is left to do: a minute passes in milliseconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_OWN_READERS = 1  # the loop's own, by which threads wake it


class VirtualLoop(asyncio.SelectorEventLoop):
    """While something outside is awaited (a thread, a process, a socket) its clock goes as fast as everybody's: a
    deadline must not pass because a thread takes a millisecond."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 1_000.0
        self._threads = 0

    def time(self) -> float:
        return self._now_s

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _: asyncio.Future[Any]) -> None:
        self._threads -= 1

    def _run_once(self) -> None:
        # Private to asyncio, and the one place where it decides how long to wait.
        ready: Any = getattr(self, "_ready")  # noqa: B009
        timers: Any = getattr(self, "_scheduled")  # noqa: B009
        selector: Any = getattr(self, "_selector")  # noqa: B009
        if self._threads or len(selector.get_map()) > _OWN_READERS:
            began_s = time.monotonic()
            super()._run_once()  # type: ignore[misc]
            self._now_s += time.monotonic() - began_s
            return
        if not ready and timers:
            self._now_s = max(self._now_s, _first(timers))
        super()._run_once()  # type: ignore[misc]


def _first(timers: Any) -> float:
    """When the first one is due; a cancelled one at the head is dropped by asyncio, which then waits for the next."""
    if not timers[0].cancelled():
        return float(timers[0].when())
    return min((timer.when() for timer in timers if not timer.cancelled()), default=0.0)


def run(work: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
