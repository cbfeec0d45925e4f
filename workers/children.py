"""Runs plain functions in processes of their own, so that what blocks, crashes or eats memory harms its own call alone.

A function is named by module and name, arguments and result are JSON: nothing else crosses. A child takes one call at a
time; one whose call failed, was cancelled or left something behind is killed with all it started, the others are kept.
Knows no turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import JsonValue

from schemas.codes import Code
from schemas.errors import RetryableError, TerminalError
from workers.child import MOST_BYTES, found

_log = logging.getLogger("fleet.worker")
Outcome = Literal["done", "raised", "crashed", "cancelled"]


class Children:
    """`most`: calls that run at the same time, others wait; `memory_bytes`: address space of a child, 0: no limit;
    `tell`: of each call's outcome. Nothing is started before the first call."""

    def __init__(
        self, most: int = 2, memory_bytes: int = 0, *, tell: Callable[[Outcome], None] = lambda _: None
    ) -> None:
        self.tell = tell
        self._memory_bytes = memory_bytes
        self._free = asyncio.Semaphore(most)
        self._idle: list[_Child] = []
        self._living: set[_Child] = set()

    async def call(self, what: str, function: Callable[..., Any], arguments: Sequence[JsonValue]) -> JsonValue:
        """`function(*arguments)` elsewhere. Cancelled: the child is killed at once. Raises the typed errors, and
        TerminalError(agent_error) for whatever else becomes of it; `what` begins the sentence."""
        place = place_of(function, what)
        async with self._free:
            child = self._take() or await self._new()
            outcome: Outcome = "cancelled"
            try:
                answer = await child.ask({"place": place, "arguments": arguments})
                outcome = "crashed" if answer is None else "raised" if "error" in answer else "done"
            finally:
                self.tell(outcome)
                if outcome == "done" and not answer["left"]:  # type: ignore[index]
                    self._idle.append(child)
                else:
                    child.kill()
        if answer is None:
            raise TerminalError(Code.AGENT_ERROR, f"{what}: its process ended {child.end}")
        return _result(what, answer)

    async def close(self) -> None:
        """Kill them all, and wait until they are gone."""
        self._idle.clear()
        living = list(self._living)
        for child in living:
            child.kill()
        await asyncio.gather(*(child.gone() for child in living))

    async def _new(self) -> _Child:
        child = await _Child.start(self._memory_bytes, self._living.discard)
        self._living.add(child)
        return child

    def _take(self) -> _Child | None:
        while self._idle:
            child = self._idle.pop()
            if child.alive:
                return child
            child.kill()
        return None


def place_of(function: Callable[..., Any], what: str) -> str:
    """`module:name` of a function that a child finds there. Raises TerminalError with a sentence for its author."""
    if inspect.iscoroutinefunction(function):
        raise TerminalError(Code.AGENT_ERROR, f"{what}: give a plain function, not an asynchronous one")
    place = f"{getattr(function, '__module__', None)}:{getattr(function, '__qualname__', None)}"
    with contextlib.suppress(Exception):
        if not place.startswith("__main__:") and found(place) is function:
            return place
    raise TerminalError(
        Code.AGENT_ERROR, f"{what}: {place} cannot be imported; give a function of a module's top level"
    )


class _Child:
    """One process, and the line to it. `told`: when it has ended."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        told: Callable[[_Child], None],
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._told = told
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watched = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._watched, self._ended)

    @classmethod
    async def start(cls, memory_bytes: int, told: Callable[[_Child], None]) -> _Child:
        """A new one; it imports what it needs with its first call."""
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, "-X", "faulthandler", "-m", "workers.child"]
            paths = os.pathsep.join(path for path in sys.path if path)
            process = subprocess.Popen(  # noqa: ASYNC220 - it returns when the process is there, about 1 ms
                [*command, str(number), str(os.getpid()), str(memory_bytes)],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=(number,),
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": paths},
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer, told)

    @property
    def alive(self) -> bool:
        return not self._gone.done()

    async def gone(self) -> None:
        """Once it has ended."""
        await asyncio.shield(self._gone)

    @property
    def end(self) -> str:
        """How it ended, in words."""
        code = self._process.returncode
        return f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"

    async def ask(self, call: dict[str, Any]) -> dict[str, Any] | None:
        """Its answer; None: it ended without one."""
        raw = json.dumps(call, allow_nan=False).encode()
        self._writer.write(len(raw).to_bytes(4) + raw)
        reading = asyncio.ensure_future(self._read())
        first: set[asyncio.Future[Any]] = {reading, self._gone}
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else None
        finally:
            reading.cancel()

    async def _read(self) -> dict[str, Any] | None:
        try:
            size = int.from_bytes(await self._reader.readexactly(4))
            answer = json.loads(await self._reader.readexactly(size)) if size <= 2 * MOST_BYTES else None
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            answer = None
        if answer is None:
            self.kill()  # it closed its line, or speaks another language: what it did is lost
            await self.gone()
        return answer if isinstance(answer, dict) else None

    def kill(self) -> None:
        """It, and what it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._writer.close()

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._watched)
        os.close(self._watched)
        self._process.poll()
        self._told(self)
        if not self._gone.done():
            self._gone.set_result(None)


def _result(what: str, answer: dict[str, Any]) -> JsonValue:
    error = answer.get("error")
    if error is None:
        result: JsonValue = answer["result"]
        return result
    text = f"{what}: {error['text']}"
    if not error.get("typed"):
        _log.error("%s, in its process", text, extra={"stack": error["stack"]})
        raise TerminalError(Code.AGENT_ERROR, text)
    if error.get("retry"):
        raise RetryableError(text, code=Code(error["code"]), after_s=error["after_s"])
    raise TerminalError(Code(error["code"]), text)
