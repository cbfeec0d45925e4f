"""One connection to a server over time: opened when it is wanted, closed when idle, opened again when it died.

Each opening lives in a task of its own, which opens and closes it: the SDK cancels that task when a server dies, and
nothing but this opening ends with it. Knows no tool.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

from mcp.shared.exceptions import MCPError

from schemas.codes import Code
from schemas.errors import RetryableError
from workers.mcp.config import ServerConfig
from workers.mcp.opening import Ears, Opener
from workers.mcp.wire import Wire
from workers.tools.exchange import EXCHANGE, Answer, Exchange, Question

_log = logging.getLogger("fleet.mcp")
_BACKOFF_S, _BACKOFF_MOST_S = 0.5, 60.0
_STEADY_S = 30.0  # open for so long, a connection that ends counts as no failure
_CLOSE_S = 8.0  # closing has bounds of its own; after this it is cancelled
Event = Literal["opened", "failed", "lost", "closed"]


class Away(RetryableError):
    """The server cannot be spoken to: nothing was sent to it."""

    def __init__(self, name: str, why: str, after_s: float | None = None) -> None:
        super().__init__(f"the MCP server {name!r} is away: {why}", code=Code.TOOL_ERROR, after_s=after_s)


class Voices(NamedTuple):
    """What a connection tells its lease while it is open."""

    ask: Callable[[Question], Awaitable[Answer]]
    changed: Callable[[], None]


class Opening:
    """One opening, from the start of its task to the end of it. `ended`: told once, by the task. `why` it ended, ""
    where we closed it. `asks`: its server asked what no message says whose it is; `left`: a call was left without an
    answer, so that the next such question may be of a call that is over."""

    def __init__(self, name: str, opener: Opener, voices: Voices, ended: Callable[[Opening], None]) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[Wire] = loop.create_future()
        self.opened.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.since_s = loop.time()
        self.why = ""
        self.asks = self.left = False
        self.leaving = False
        self._leave = asyncio.Event()
        self._ended = ended
        self._task = asyncio.create_task(self._own(opener, Ears(*voices, self.lost)), name=f"mcp {name}")

    @property
    def over(self) -> bool:
        return self._task.done() or self._leave.is_set()

    async def _own(self, opener: Opener, ears: Ears) -> None:
        EXCHANGE.set(Exchange())  # what this task hears is nobody's, least of all that call's which opened it
        try:
            async with opener(ears) as wire:
                if not self.opened.done():
                    self.opened.set_result(wire)
                await self._leave.wait()
        except asyncio.CancelledError:
            self._blame("its connection broke")  # by the SDK, or by us because closing took too long
        except Exception as error:  # noqa: BLE001 (whatever it is, the server is away)
            if not self.opened.done() and not self.leaving:
                self.why = ""  # what the server said of it says more than that it ended
            self._blame(said(error))
        finally:
            self._leave.set()
            if not self.opened.done():
                self.opened.set_exception(ConnectionError(self.why or "it was closed"))
            self._ended(self)

    def _blame(self, why: str) -> None:
        if not self.leaving:
            self.why = self.why or why

    def lost(self, why: str) -> None:
        """The server is gone or not to be listened to: close what is open."""
        self._blame(why)
        self._leave.set()

    async def close(self) -> None:
        """Until it is gone, and what it started with it."""
        self.leaving = True
        self._leave.set()
        if not self.opened.done():
            self._task.cancel()
        _, pending = await asyncio.wait((self._task,), timeout=_CLOSE_S)
        if pending:
            self._task.cancel()
            await asyncio.wait((self._task,), timeout=_CLOSE_S)


class Lease:
    """`use()`: the connection, for one call or one list. `changed`: the server says that its tools are others.
    `tell`: of what became of openings. `prepare`: what is done first with a new connection, within its time-out.
    """

    def __init__(
        self,
        name: str,
        config: ServerConfig,
        opener: Opener,
        *,
        changed: Callable[[], None],
        tell: Callable[[Event], None],
    ) -> None:
        self._name = name
        self._config = config
        self._opener = opener
        self._changed = changed
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._opening: Opening | None = None
        self._openings: set[Opening] = set()  # that one, and those that are not closed yet
        self._free = asyncio.Semaphore(config.most_calls)
        self._asking: list[Exchange] = []
        self._failures = 0
        self._not_before_s = 0.0
        self._why = ""
        self._idle: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.users = 0
        self.used_s = self._loop.time()

    @property
    def is_open(self) -> bool:
        return self._opening is not None and not self._opening.over and self._opening.opened.done()

    @asynccontextmanager
    async def use(self, *, calling: bool = True) -> AsyncIterator[Wire]:
        """`calling`: for a call, which its server may have questions about. Raises Away: nothing was sent."""
        self.users += 1
        try:
            async with self._free:
                wire = await self._wire()
                if calling:
                    async with self._call():
                        yield wire
                else:
                    yield wire
        finally:
            self.users -= 1
            self.used_s = self._loop.time()
            self._watch_idle()

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        exchange, opening = EXCHANGE.get(), self._opening
        self._asking.append(exchange)
        try:
            yield
        except asyncio.CancelledError:  # by whoever made the call, or because its time was over
            if opening is not None:
                opening.left = True
            raise
        finally:
            self._asking.remove(exchange)

    def _renew(self) -> None:
        """Whose the next question is would never be known again: with nobody else on it, the connection is made anew,
        unless its server keeps state for its session."""
        opening = self._opening
        if opening is None or not (opening.asks and opening.left):
            return
        if self.users == 1 and self._config.lease == "shared":
            self._opening = None
            self._in_background(opening.close())

    async def _wire(self) -> Wire:
        self._renew()
        opening = self._opening
        if opening is None or opening.over:
            wait_s = self._not_before_s - self._loop.time()
            if wait_s > 0:
                raise Away(self._name, f"{self._why}; it is tried again in {wait_s:.1f} s", wait_s)
            opening = self._opening = self._open()
        try:
            async with asyncio.timeout(self._config.open_timeout_s):
                return await asyncio.shield(opening.opened)
        except TimeoutError:
            opening.lost(f"it did not open within {self._config.open_timeout_s:g} s")
            self._in_background(opening.close())
            raise Away(self._name, opening.why) from None
        except ConnectionError as error:
            raise Away(self._name, str(error)) from None

    def _open(self) -> Opening:
        made = Opening(self._name, self._opener, Voices(self._ask, self._changed), self._ended)
        made.opened.add_done_callback(self._told)
        self._openings.add(made)
        return made

    def _told(self, opened: asyncio.Future[Wire]) -> None:
        if not opened.cancelled() and opened.exception() is None:
            self._tell("opened")

    def _ended(self, opening: Opening) -> None:
        """The next opening waits, the longer the more of them failed in a row: full jitter, so that many workers do
        not come back at the same moment."""
        self._openings.discard(opening)
        if self._opening is opening:
            self._opening = None
        if not opening.why:
            self._tell("closed")
            return
        never = opening.opened.exception() is not None
        self._tell("failed" if never else "lost")
        _log.warning("mcp %s: %s: %s", self._name, "cannot be opened" if never else "lost", opening.why)
        self._why = opening.why
        steady = not never and self._loop.time() - opening.since_s >= _STEADY_S
        self._failures = 0 if steady else self._failures + 1
        if self._failures > (0 if never else 1):  # one that died is opened again at once, the first time
            most_s = min(_BACKOFF_MOST_S, _BACKOFF_S * 2 ** min(self._failures, 10))
            self._not_before_s = self._loop.time() + random.uniform(0.0, most_s)

    async def _ask(self, question: Question) -> Answer:
        """Whose call is it? Over HTTP it comes with that call's answer, in a task that has that call's context. Else
        no message says: with one call in progress, and none that was left without an answer, it is that one's, else
        nobody's."""
        ask = EXCHANGE.get().ask
        if ask is None:
            opening = self._opening
            if opening is not None:
                opening.asks = True
            alone = len(self._asking) == 1 and opening is not None and not opening.left
            ask = self._asking[0].ask if alone else None
        return Answer(allowed=False) if ask is None else await ask(question)

    def lose(self, why: str) -> None:
        """Open it anew for the next call."""
        if self._opening is not None:
            self._opening.lost(why)

    def _watch_idle(self) -> None:
        if self._idle is None and not self.users and self._opening is not None:
            self._idle = self._loop.call_at(self.used_s + self._config.idle_s, self._look)

    def _look(self) -> None:
        self._idle = None
        if not self.users and self._loop.time() - self.used_s >= self._config.idle_s:
            if self._opening is not None:
                self._in_background(self._opening.close())
        else:
            self._watch_idle()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"mcp close {self._name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """For good: calls in progress end with an error."""
        if self._idle is not None:
            self._idle.cancel()
        await asyncio.gather(*(opening.close() for opening in list(self._openings)))
        if self._tasks:
            await asyncio.wait(self._tasks)


def said(error: BaseException) -> str:
    """The first thing that went wrong, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = error.error.message if isinstance(error, MCPError) else str(error)
    return " ".join(text.split())[:300] or type(error).__name__
