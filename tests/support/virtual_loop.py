"""An event loop whose clock jumps to the next timer when nothing is left to do: a minute passes in milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """No network: what waits for a socket waits for ever."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 1_000.0

    def time(self) -> float:
        return self._now_s

    def _run_once(self) -> None:
        # Private to asyncio, and the one place where it decides how long to wait.
        ready: Any = getattr(self, "_ready")  # noqa: B009
        timers: Any = getattr(self, "_scheduled")  # noqa: B009
        if not ready and timers:
            self._now_s = max(self._now_s, timers[0].when())
        super()._run_once()  # type: ignore[misc]


def run(work: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
