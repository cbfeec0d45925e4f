"""Keeps what ends a process inside of the agent's task that raised it. Knows no turn but by its name.

asyncio lets SystemExit and KeyboardInterrupt of any task out of the loop: a `sys.exit` in a task that an agent started
would end the worker and every turn in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

from workers.at_work import AT_WORK


class AgentExit(Exception):
    """A task of an agent raised SystemExit or KeyboardInterrupt."""


class Contained(Coroutine[Any, Any, Any]):
    """A coroutine out of which neither comes."""

    __slots__ = ("_work",)

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work

    def send(self, value: Any) -> Any:
        try:
            return self._work.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise _told(error) from error

    def throw(self, *error: Any) -> Any:
        try:
            return self._work.throw(*error)
        except (SystemExit, KeyboardInterrupt) as raised:
            raise _told(raised) from raised

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self._work.__await__())


def contain(loop: asyncio.AbstractEventLoop) -> None:
    """From now on tasks that are started on an agent's behalf are contained; all others are as they were."""
    loop.set_task_factory(_made)


def from_outside(error: BaseException) -> bool:
    """Whether somebody ends the task that runs now: it was cancelled, or is closed with its loop. Else its own code
    raised what only its owner may."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs
        return True
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _made(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    if AT_WORK.get(None) is not None and isinstance(work, Coroutine):
        work = Contained(work)
    return asyncio.Task(work, loop=loop, **options)


def _told(error: BaseException) -> AgentExit:
    return AgentExit(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
