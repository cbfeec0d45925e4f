"""The model behind any OpenAI-compatible endpoint. The client library knows keys, addresses, proxies and redirects and
names the errors; the plain way to a server, which a worker goes all day, is gone here. Knows no retry.
"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Mapping
from functools import partial
from urllib.parse import urlsplit

import httpx2
import openai
import orjson

from schemas.errors import RetryableError, TerminalError
from schemas.settings import ModelSettings
from workers.models.failures import Failure, retry_after_s
from workers.models.openai_messages import body_of
from workers.models.port import (
    ModelMisconfigured,
    ModelRefused,
    ModelRequest,
    ModelTimedOut,
    ModelUnavailable,
    Timeouts,
)
from workers.models.pump import Pump
from workers.models.reading import Answer, Exchange
from workers.models.wire import Broken, NotConnected
from workers.models.wires import Reply, Wires

_PATH = "/chat/completions"
_NOWHERE = "http://model.invalid/v1"
# What a server that does not know the usage option answers.
_NOT_UNDERSTOOD = frozenset({400, 422})
_USAGE = ("stream_options", "include_usage")
_FORMAT = ("response_format", "json_schema")
_ERROR_BYTES = 64 * 1024


class OpenAICompatibleModel:
    """The endpoint that the settings name. Raises ModelMisconfigured for an address or a key that is none.

    `with_usage`, `with_format`: it takes the options for token counts and for structured output; `wires`: the plain way
    to it, None where a proxy or a redirect stands in between.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self.url = settings.model_url
        self.model = settings.model
        self.coalesce_s = settings.model_coalesce_ms / 1000
        self.timeouts = Timeouts.of(settings)
        self.with_usage = self.with_format = True
        self.client = self._client(settings)
        self.wires = None if _behind_proxy(self.url) else self._plain_way()

    def _client(self, settings: ModelSettings) -> openai.AsyncOpenAI:
        try:
            return openai.AsyncOpenAI(
                api_key=settings.model_key.strip() or "none",
                base_url=self.url or _NOWHERE,
                max_retries=0,
                http_client=openai.DefaultAsyncHttpxClient(limits=httpx2.Limits(max_connections=None)),
                default_headers={"Accept": "text/event-stream, application/json", "Accept-Encoding": "identity"},
            )
        except (ValueError, httpx2.InvalidURL):  # their words may hold the address, and it a password
            raise ModelMisconfigured("FLEET_MODEL_URL is no address of an HTTP server") from None

    def stream(self, request: ModelRequest) -> Answer:
        """As the port says."""
        limits = request.timeouts or self.timeouts
        model = request.model or self.model
        ask = partial(self._ask, request, model, limits)
        return Answer(ask, model=model, limits=limits, coalesce_s=self.coalesce_s)

    async def close(self) -> None:
        """Cut idle connections."""
        if self.wires is not None:
            self.wires.close()
        await self.client.close()

    def _plain_way(self) -> Wires:
        """Where the client library would send, with the headers that it would send."""
        headers = {**self.client.auth_headers, **self.client.default_headers}
        url = str(self.client.base_url).rstrip("/") + _PATH
        try:
            return Wires(url, {name: value for name, value in headers.items() if isinstance(value, str)})
        except ValueError as error:
            raise ModelMisconfigured(f"FLEET_MODEL_URL and FLEET_MODEL_KEY do not make a request: {error}") from None

    async def _ask(self, request: ModelRequest, model: str, limits: Timeouts) -> Exchange:
        """Send the request; again without an option that a server refuses, and remember which."""
        if not self.url:
            raise ModelRefused("no model is configured: set FLEET_MODEL_URL to an OpenAI-compatible endpoint")
        names = {"x-fleet-session": request.session, "x-fleet-turn": request.turn}
        usage, form = self.with_usage, self.with_format
        while True:
            try:
                body = body_of(request, model, with_usage=usage, with_format=form)
                exchange = await self._sent(body, names, limits)
            except (openai.OpenAIError, Broken) as error:
                if usage and _refuses(error, _USAGE):
                    usage = False
                elif form and request.output is not None and _refuses(error, _FORMAT):
                    form = False
                else:
                    raise _typed(error, limits) from error
            else:
                self.with_usage, self.with_format = usage, form
                return exchange

    async def _sent(self, body: bytes, names: Mapping[str, str], limits: Timeouts) -> Exchange:
        if self.wires is None:
            return await self._by_library(body, names, limits)
        reply = await self.wires.post(body, names, connect_s=limits.connect_s)
        if 200 <= reply.status < 300 and reply.headers.get("content-encoding", "identity") == "identity":
            return reply
        try:
            if reply.status >= 400:
                raise await _status_error(reply)
        finally:
            await reply.close()
        self.wires = None
        return await self._by_library(body, names, limits)

    async def _by_library(self, body: bytes, names: Mapping[str, str], limits: Timeouts) -> Exchange:
        """Through proxies and redirects, and for compressed bodies; costs more. What it reads, Answer limits."""
        response: object = await self.client.post(
            _PATH,
            cast_to=httpx2.Response,
            content=body,
            options={"headers": dict(names), "timeout": httpx2.Timeout(None, connect=limits.connect_s)},
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )
        if not isinstance(response, httpx2.Response):
            raise TypeError(f"the client library gave {type(response).__name__}, want the response as it is")
        return _LibraryExchange(response)


class _LibraryExchange:
    """A response of the client library, which cannot pause: it is pumped."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self._pump = Pump(response.aiter_bytes())

    async def read(self) -> bytes:
        try:
            return await self._pump.read()
        except httpx2.HTTPError as error:
            raise Broken(f"{error}") from error

    def pause(self) -> None:
        """Nothing to do: what comes is gathered."""

    async def close(self) -> None:
        await self._pump.close()
        await self._response.aclose()


async def _status_error(reply: Reply) -> openai.APIStatusError:
    """The client library's error for a reply that is one."""
    body = b""
    while len(body) < _ERROR_BYTES and (more := await reply.read()):
        body += more
    try:
        said = orjson.loads(body)
    except ValueError:
        said = body[:_ERROR_BYTES].decode("utf-8", "replace")
    if isinstance(said, dict):
        said = said.get("error") or said
    request = httpx2.Request("POST", _NOWHERE)
    response = httpx2.Response(reply.status, headers=list(reply.headers.items()), request=request)
    return openai.APIStatusError("an error", response=response, body=said)


def _behind_proxy(url: str) -> bool:
    """Whether the environment names a proxy for this address."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    return bool({parts.scheme, "all"} & proxies.keys()) and not urllib.request.proxy_bypass(parts.hostname or "")


def _refuses(error: openai.OpenAIError | Broken, option: tuple[str, ...]) -> bool:
    """Whether a server does not know an option of the request, by its words."""
    if not isinstance(error, openai.APIStatusError) or error.status_code not in _NOT_UNDERSTOOD:
        return False
    return any(word in f"{error.message} {error.body}" for word in option)


def _typed(error: openai.OpenAIError | Broken, limits: Timeouts) -> RetryableError | TerminalError:
    """The error of ours that it is."""
    if isinstance(error, openai.APIStatusError):
        body = error.body
        said = body.get("message") if isinstance(body, dict) else body
        after_s = retry_after_s(error.response.headers, time.time())
        text = f"the provider answered {error.status_code}: {said or error.message}"
        return Failure(text, error.status_code, after_s, error.code or error.type or "").typed()
    cause = error.__cause__ or error
    if isinstance(cause, NotConnected | httpx2.ConnectTimeout):
        return ModelTimedOut("connect", limits.connect_s)
    return ModelUnavailable(f"the provider cannot be reached: {str(cause) or type(cause).__name__}")
