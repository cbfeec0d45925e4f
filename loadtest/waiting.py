"""Waits for something that can only be asked: another process, a server, a counter. Knows nothing of what is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(done: Callable[[], bool], *, timeout_s: float, pause_s: float = 0.02) -> bool:
    """Ask `done` every `pause_s` until it says yes or `timeout_s` are over; what it said last."""
    until_s = time.monotonic() + timeout_s
    answer = done()
    while not answer and time.monotonic() < until_s:
        await asyncio.sleep(pause_s)
        answer = done()
    return answer
