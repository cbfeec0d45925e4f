"""Reads one streamed answer from an exchange: the first piece at once, then joined ones, within limits of time.

Knows no provider's client library and no connection; an exchange is anything that gives bytes and may pause.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Protocol

from schemas.errors import RetryableError
from workers.models.deltas import Deltas
from workers.models.port import ModelPiece, ModelTimedOut, ModelUnavailable, Timeouts
from workers.models.sse import Events, EventTooLarge
from workers.models.wire import Broken

# How long the usage may come after the last piece, where a server keeps the connection open and says nothing.
_AFTER_FINISH_S = 5.0


class Exchange(Protocol):
    """A body that comes in. `read` raises Broken and gives nothing at the end; `close` ends the provider's work."""

    async def read(self) -> bytes: ...
    def pause(self) -> None: ...
    async def close(self) -> None: ...


class Answer:
    """One call: a context manager, and the iterator of its pieces. `ask` sends the request, once."""

    __slots__ = (
        "_alive_s",
        "_ask",
        "_begun",
        "_clock",
        "_coalesce_s",
        "_deltas",
        "_end_s",
        "_eof",
        "_events",
        "_exchange",
        "_first_s",
        "_limits",
        "_over",
    )

    def __init__(
        self, ask: Callable[[], Awaitable[Exchange]], *, model: str, limits: Timeouts, coalesce_s: float
    ) -> None:
        self._ask = ask
        self._limits = limits
        self._coalesce_s = coalesce_s
        self._events = Events()
        self._deltas = Deltas(model)
        self._clock = asyncio.get_running_loop().time
        self._end_s = self._clock() + limits.total_s
        self._first_s = self._clock() + limits.first_token_s
        self._alive_s = self._clock()
        self._exchange: Exchange | None = None
        self._begun = False
        self._eof = False
        self._over = False

    async def __aenter__(self) -> AsyncIterator[ModelPiece]:
        try:
            async with asyncio.timeout_at(min(self._first_s, self._end_s)):
                self._exchange = await self._ask()
        except TimeoutError:
            raise self._late() from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._exchange is not None:
            await self._exchange.close()

    def __aiter__(self) -> AsyncIterator[ModelPiece]:
        return self

    async def __anext__(self) -> ModelPiece:
        if self._over:
            raise StopAsyncIteration
        try:
            return await self._given()
        except ModelUnavailable as error:
            error.usage = self._deltas.told
            raise

    async def _given(self) -> ModelPiece:
        try:
            return await self._next()
        except TimeoutError:
            return self._ended_or(self._late())
        except Broken as error:
            return self._ended_or(ModelUnavailable(f"the provider's stream broke off: {error}"))
        except EventTooLarge as error:
            raise ModelUnavailable(f"the provider sent {error}") from None

    async def _next(self) -> ModelPiece:
        deltas, pieces = self._deltas, self._deltas.pieces
        self._alive_s = self._clock()
        while not deltas.ended and not self._eof:
            if self._begun and not deltas.finished:
                await self._gather()
            await self._read()
            if chunk := deltas.take():
                self._begun = True
                return chunk
            if deltas.pieces != pieces:
                pieces, self._begun, self._alive_s = deltas.pieces, True, self._clock()
        return self._last()

    async def _gather(self) -> None:
        """Wait for the coalescing interval; packets lie in the kernel meanwhile."""
        if self._exchange is not None and self._coalesce_s > 0:
            self._exchange.pause()
            await asyncio.sleep(self._coalesce_s)

    async def _read(self) -> None:
        if self._exchange is None:
            raise RuntimeError("read the pieces inside `async with`")
        async with asyncio.timeout_at(min(self._due_s(), self._end_s)):
            data = await self._exchange.read()
        self._eof = not data
        self._deltas.add(self._events.feed(data) if data else self._events.end())

    def _due_s(self) -> float:
        """When the next piece must be here. What a server sends to keep a connection alive is none."""
        if not self._begun:
            return self._first_s
        idle_s = self._limits.idle_s
        return self._clock() + min(idle_s, _AFTER_FINISH_S) if self._deltas.finished else self._alive_s + idle_s

    def _last(self) -> ModelPiece:
        """The stream is over: what is left, then the end."""
        if not self._deltas.finished:
            raise ModelUnavailable("the provider's stream ended before the answer did")
        if chunk := self._deltas.last():
            return chunk
        self._over = True
        return self._deltas.done()

    def _ended_or(self, error: RetryableError) -> ModelPiece:
        """The connection failed: no harm if the answer is whole, for then only the usage is missing."""
        if not self._deltas.finished:
            raise error
        self._eof = True
        return self._last()

    def _late(self) -> ModelTimedOut:
        limits = self._limits
        if self._clock() >= self._end_s:
            return ModelTimedOut("total", limits.total_s)
        if not self._begun:
            return ModelTimedOut("first_token", limits.first_token_s)
        return ModelTimedOut("idle", limits.idle_s)
