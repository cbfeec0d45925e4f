"""Which turn a task works for, told to whoever looks from another thread. Knows no turn's life.

A task that an agent starts inherits the answer, and so may one of ours that is started on an agent's behalf: it names
whom to suspect and decides nothing.
"""

from __future__ import annotations

import asyncio
import gc
from contextvars import Context, ContextVar
from typing import Any, NamedTuple


class AtWork(NamedTuple):
    """One turn, by its names."""

    session: str
    turn: str
    agent: str


AT_WORK: ContextVar[AtWork] = ContextVar("at_work")


def at_work(task: asyncio.Task[Any]) -> AtWork | None:
    """Whose turn the task works for. A task tells its context from Python 3.12 on; the collector knows it before."""
    for found in gc.get_referents(task):
        if isinstance(found, Context):
            return found.get(AT_WORK)
    return None
