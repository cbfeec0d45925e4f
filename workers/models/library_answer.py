"""Reads one streamed answer through pydantic-ai: the first piece at once, then joined ones, within limits of time.

A task of its own opens the stream, reads it and closes it, for the library's streams cannot be paused and must be
closed where they were opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import Protocol

import orjson
from pydantic_ai.messages import (
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)
from pydantic_ai.models import StreamedResponse

from schemas.frames import Finish, Usage
from schemas.history import ToolCall
from workers.models.library_errors import typed
from workers.models.port import ModelChunk, ModelDone, ModelPiece, ModelTimedOut, ModelUnavailable, Timeouts

Open = Callable[[], AbstractAsyncContextManager[StreamedResponse]]
_FINISH: dict[str, Finish] = {"length": "length", "content_filter": "content_filter"}
_BUFFER_CHARS = 1024 * 1024
_RESPONSES: ContextVar[list[Closing]] = ContextVar("responses of a model stream")


class Closing(Protocol):
    """What holds a connection."""

    async def aclose(self) -> None: ...


async def note_response(response: Closing) -> None:
    """For a client whose library leaves a response to the garbage collector: have it closed when its stream is left."""
    _RESPONSES.get().append(response)


class LibraryAnswer:
    """One call: a context manager, and the iterator of its pieces. `open_` asks, once; `model`: as it was asked for."""

    def __init__(self, open_: Open, *, provider: str, model: str, limits: Timeouts, coalesce_s: float) -> None:
        self._open = open_
        self._provider = provider
        self._model = model
        self._limits = limits
        self._coalesce_s = coalesce_s
        self._clock = asyncio.get_running_loop().time
        self._end_s = self._clock() + limits.total_s
        self._first_s = self._clock() + limits.first_token_s
        self._alive_s = self._clock()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._chars = 0
        self._begun = self._opened = self._read = self._over = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._done: ModelDone | None = None
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None
        self._stream: StreamedResponse | None = None

    async def __aenter__(self) -> AsyncIterator[ModelPiece]:
        self._task = asyncio.create_task(self._run(), name=f"model stream of {self._provider}")
        try:
            while not self._opened and not self._read:
                await self._wait(min(self._first_s, self._end_s))
            if self._error is not None:
                raise self._error
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    def __aiter__(self) -> AsyncIterator[ModelPiece]:
        return self

    async def __anext__(self) -> ModelPiece:
        if self._over:
            raise StopAsyncIteration
        try:
            return await self._given()
        except ModelUnavailable as error:
            error.usage = self._usage(self._stream) if self._stream is not None else None
            raise

    async def _given(self) -> ModelPiece:
        if self._begun and not self._read and self._coalesce_s > 0:
            await self._gather()
        while True:
            if (chunk := self._take()) is not None:
                return chunk
            if self._read:
                return self._last()
            await self._wait(min(self._due_s(), self._end_s))

    async def _run(self) -> None:
        responses: list[Closing] = []
        _RESPONSES.set(responses)
        try:
            async with self._open() as stream:
                self._stream = stream
                self._opened = True
                self._news.set()
                async for event in stream:
                    if self._grow(event):
                        await self._room.wait()
                self._done = self._ended(stream)
        except Exception as error:  # noqa: BLE001 - whatever a provider's client raises, its reader is told
            self._error = typed(error, self._limits)
        finally:
            self._read = True
            self._news.set()
            for response in responses:
                await response.aclose()

    def _grow(self, event: ModelResponseStreamEvent) -> bool:
        """Keep what an event brings; whether that is too much for now."""
        if isinstance(event, PartDeltaEvent):
            piece = event.delta
            text = piece.content_delta if isinstance(piece, TextPartDelta | ThinkingPartDelta) else None
        elif isinstance(event, PartStartEvent):
            text = event.part.content if isinstance(event.part, TextPart | ThinkingPart) else None
        else:
            return False
        self._alive_s = self._clock()
        kind = event.delta if isinstance(event, PartDeltaEvent) else event.part
        if text:
            (self._reasoning if isinstance(kind, ThinkingPart | ThinkingPartDelta) else self._text).append(text)
            self._chars += len(text)
        elif not isinstance(kind, ToolCallPart | ToolCallPartDelta):
            return False
        self._news.set()
        if self._chars > _BUFFER_CHARS:
            self._room.clear()
        return not self._room.is_set()

    async def _wait(self, until_s: float) -> None:
        """For news. Raises ModelTimedOut; what came while it waited moves the limit, so its caller looks again."""
        self._news.clear()
        try:
            async with asyncio.timeout_at(until_s):
                await self._news.wait()
        except TimeoutError:
            now_s = self._clock()
            if now_s >= self._end_s or now_s >= self._due_s():
                raise self._late() from None

    async def _gather(self) -> None:
        ready_s = min(self._clock() + self._coalesce_s, self._end_s)
        while not self._read and (left_s := ready_s - self._clock()) > 0:
            self._news.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._news.wait()
            except TimeoutError:
                break
        if self._clock() >= self._end_s and not self._read:
            raise self._late()

    def _take(self) -> ModelChunk | None:
        if not self._text and not self._reasoning:
            return None
        chunk = ModelChunk(_clean("".join(self._text)), _clean("".join(self._reasoning)))
        self._text.clear()
        self._reasoning.clear()
        self._chars = 0
        self._room.set()
        self._begun = True
        return chunk

    def _last(self) -> ModelPiece:
        self._over = True
        if self._error is not None:
            raise self._error
        if self._done is None:
            raise ModelUnavailable("the provider's stream ended before the answer did")
        return self._done

    def _ended(self, stream: StreamedResponse) -> ModelDone | None:
        """The end; None where the provider did not say that the answer is whole."""
        response = stream.get()
        if response.finish_reason is None:
            return None
        calls = tuple(_call(part) for part in response.parts if isinstance(part, ToolCallPart))
        finish = _FINISH.get(response.finish_reason, "stop")
        return ModelDone(finish, self._usage(stream), calls, self._model)

    def _usage(self, stream: StreamedResponse) -> Usage | None:
        usage = stream.usage
        if not usage.has_values():
            return None
        return Usage(
            provider=self._provider,
            model=self._model,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_input_tokens=usage.cache_read_tokens,
            reasoning_tokens=usage.output_reasoning_tokens or usage.details.get("thoughts_tokens"),
        )

    def _due_s(self) -> float:
        return self._alive_s + self._limits.idle_s if self._begun else self._first_s

    def _late(self) -> ModelTimedOut:
        if self._clock() >= self._end_s:
            return ModelTimedOut("total", self._limits.total_s)
        if not self._begun:
            return ModelTimedOut("first_token", self._limits.first_token_s)
        return ModelTimedOut("idle", self._limits.idle_s)

    async def _close(self) -> None:
        """End the task, and with it the provider's work."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])


def _call(part: ToolCallPart) -> ToolCall:
    given = part.args
    if isinstance(given, str):
        try:
            given = orjson.loads(given or "{}")
        except ValueError:
            given = None
    if given is None and not part.args:
        given = {}
    if isinstance(given, dict):
        return ToolCall(call=part.tool_call_id, name=part.tool_name, arguments=given)
    return ToolCall(call=part.tool_call_id, name=part.tool_name, arguments_text=str(part.args))


def _clean(text: str) -> str:
    """Without halves of surrogate pairs."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
