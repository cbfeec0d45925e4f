"""The model behind any OpenAI-compatible endpoint. The client library sends the request and names the errors; the
stream is read here, joined before objects are made of it. Knows no retry and nothing of turns.
"""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Protocol
from urllib.parse import urlsplit

import httpx2
import openai

from schemas.errors import RetryableError, TerminalError
from schemas.settings import ModelSettings
from workers.models.deltas import Deltas
from workers.models.failures import Failure, retry_after_s
from workers.models.openai_messages import body_of
from workers.models.port import ModelPiece, ModelRefused, ModelRequest, ModelUnavailable, Timeouts
from workers.models.pump import Pump
from workers.models.sse import Events, EventTooLarge
from workers.models.wire import Wire, WireTransport

# How long the usage may come after the last piece, where a server keeps the connection open and says nothing.
_AFTER_FINISH_S = 5.0
_NOWHERE = "http://model.invalid/v1"
# What a server that does not know the usage option answers.
_NOT_UNDERSTOOD = frozenset({400, 422})


class _Reader(Protocol):
    async def read(self) -> bytes: ...
    def pause(self) -> None: ...


class OpenAICompatibleModel:
    """The endpoint that the settings name. `with_usage`: it takes the option that asks for token counts."""

    def __init__(self, settings: ModelSettings) -> None:
        self.url = settings.model_url
        self.model = settings.model
        self.coalesce_s = settings.model_coalesce_ms / 1000
        self.timeouts = Timeouts(
            connect_s=settings.model_connect_timeout_s,
            first_token_s=settings.model_first_token_timeout_s,
            idle_s=settings.model_idle_timeout_s,
            total_s=settings.model_total_timeout_s,
        )
        self.with_usage = True
        transport = None if _behind_proxy(self.url) else WireTransport()
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
        self.client = openai.AsyncOpenAI(
            api_key=settings.model_key or "none",
            base_url=self.url or _NOWHERE,
            max_retries=0,
            http_client=httpx2.AsyncClient(transport=transport, limits=limits, follow_redirects=True),
            default_headers={"Accept": "text/event-stream, application/json", "Accept-Encoding": "identity"},
        )

    def stream(self, request: ModelRequest) -> Answer:
        """As the port says."""
        return Answer(self, request)

    async def close(self) -> None:
        """Close idle connections and what is open."""
        await self.client.close()


class Answer:
    """One call: a context manager, and the iterator of its pieces."""

    def __init__(self, endpoint: OpenAICompatibleModel, request: ModelRequest) -> None:
        self._endpoint = endpoint
        self._request = request
        self._limits = request.timeouts or endpoint.timeouts
        self._model = request.model or endpoint.model
        self._events = Events()
        self._deltas = Deltas(self._model)
        self._clock = asyncio.get_running_loop().time
        self._end_s = self._clock() + self._limits.total_s
        self._first_s = self._clock() + self._limits.first_token_s
        self._response: httpx2.Response | None = None
        self._reader: _Reader | None = None
        self._begun = False
        self._eof = False
        self._over = False

    async def __aenter__(self) -> AsyncIterator[ModelPiece]:
        if not self._endpoint.url:
            raise ModelRefused("no model is configured: set FLEET_MODEL_URL to an OpenAI-compatible endpoint")
        try:
            async with asyncio.timeout_at(min(self._first_s, self._end_s)):
                self._response = await self._asked()
        except TimeoutError:
            raise self._late() from None
        wire = self._response.extensions.get("wire")
        encoded = self._response.headers.get("content-encoding", "identity") != "identity"
        self._reader = wire if isinstance(wire, Wire) and not encoded else Pump(self._response.aiter_bytes())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(self._reader, Pump):
            await self._reader.close()
        if self._response is not None:
            await self._response.aclose()

    def __aiter__(self) -> AsyncIterator[ModelPiece]:
        return self

    async def __anext__(self) -> ModelPiece:
        if self._over:
            raise StopAsyncIteration
        try:
            return await self._next()
        except TimeoutError:
            return self._ended_or(self._late())
        except httpx2.HTTPError as error:
            return self._ended_or(ModelUnavailable(f"the provider's connection was cut: {error}"))
        except EventTooLarge as error:
            raise ModelUnavailable(f"the provider sent {error}") from None

    async def _next(self) -> ModelPiece:
        deltas = self._deltas
        while not deltas.ended and not self._eof:
            if self._begun and not deltas.finished:
                await self._gather()
            await self._read()
            if chunk := deltas.take():
                self._begun = True
                return chunk
        return self._last()

    async def _gather(self) -> None:
        """Wait for the coalescing interval; packets lie in the kernel meanwhile."""
        if self._reader is not None and self._endpoint.coalesce_s > 0:
            self._reader.pause()
            await asyncio.sleep(self._endpoint.coalesce_s)

    async def _read(self) -> None:
        if self._reader is None:
            raise RuntimeError("read the pieces inside `async with`")
        async with asyncio.timeout_at(min(self._due_s(), self._end_s)):
            data = await self._reader.read()
        self._eof = not data
        self._deltas.add(self._events.feed(data) if data else self._events.end())

    def _due_s(self) -> float:
        """When the next piece must be here."""
        if not self._begun:
            return self._first_s
        idle_s = self._limits.idle_s
        return self._clock() + (min(idle_s, _AFTER_FINISH_S) if self._deltas.finished else idle_s)

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

    def _late(self) -> ModelUnavailable:
        limits = self._limits
        if self._clock() >= self._end_s:
            return ModelUnavailable(f"the model did not end within {limits.total_s:g} s")
        if not self._begun:
            return ModelUnavailable(f"the model said nothing within {limits.first_token_s:g} s")
        return ModelUnavailable(f"the model said nothing more for {limits.idle_s:g} s")

    async def _asked(self) -> httpx2.Response:
        """Send the request; once more without the usage option if a server refuses that, and remember it."""
        endpoint = self._endpoint
        try:
            return await self._sent(with_usage=endpoint.with_usage)
        except openai.APIStatusError as error:
            if not endpoint.with_usage or error.status_code not in _NOT_UNDERSTOOD or not _about_usage(error):
                raise _typed(error) from error
        except openai.OpenAIError as error:
            raise _typed(error) from error
        try:
            response = await self._sent(with_usage=False)
        except openai.OpenAIError as error:
            raise _typed(error) from error
        endpoint.with_usage = False
        return response

    async def _sent(self, *, with_usage: bool) -> httpx2.Response:
        request, limits = self._request, self._limits
        response: object = await self._endpoint.client.post(
            "/chat/completions",
            cast_to=httpx2.Response,
            content=body_of(request, self._model, with_usage=with_usage),
            options={
                "headers": {"x-fleet-session": request.session, "x-fleet-turn": request.turn},
                "timeout": httpx2.Timeout(limits.first_token_s, connect=limits.connect_s),
            },
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )
        if not isinstance(response, httpx2.Response):
            raise TypeError(f"the client library gave {type(response).__name__}, want the response as it is")
        return response


def _behind_proxy(url: str) -> bool:
    """Whether the environment names a proxy for this address."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    return bool({parts.scheme, "all"} & proxies.keys()) and not urllib.request.proxy_bypass(parts.hostname or "")


def _about_usage(error: openai.APIStatusError) -> bool:
    return any(word in f"{error.message} {error.body}" for word in ("stream_options", "include_usage"))


def _typed(error: openai.OpenAIError) -> RetryableError | TerminalError:
    """The error of ours that the client library's error is."""
    if isinstance(error, openai.APIStatusError):
        body = error.body
        said = body.get("message") if isinstance(body, dict) else body
        after_s = retry_after_s(error.response.headers, time.time())
        text = f"the provider answered {error.status_code}: {said or error.message}"
        return Failure(text, error.status_code, after_s, error.code or error.type or "").typed()
    cause = error.__cause__ or error
    return ModelUnavailable(f"the provider cannot be reached: {str(cause) or type(cause).__name__}")
