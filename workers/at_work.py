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


AT_WORK: ContextVar[tuple[str, str, str]] = ContextVar("at_work")
"""An `AtWork` as a plain tuple: it is set for every turn and hardly ever read."""


def at_work(task: asyncio.Task[Any]) -> AtWork | None:
    """Whose turn the task works for. A task tells its context from Python 3.12 on; the collector knows it before."""
    for found in gc.get_referents(task):
        if isinstance(found, Context):
            names = found.get(AT_WORK)
            return AtWork(*names) if names is not None else None
    return None
