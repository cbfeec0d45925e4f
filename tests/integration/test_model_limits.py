"""The four limits of a model call and the turn's deadline, before a server that hangs just there: a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from schemas.codes import Code
from schemas.errors import RetryableError, TerminalError
from schemas.settings import ModelSettings
from tests.support.ports import free_port
from workers.models.openai_compatible import OpenAICompatibleModel
from workers.models.port import ModelDone, ModelRequest, ModelTimedOut, ModelUnavailable
from workers.models.retry import ModelCaller

LIMIT_S = 0.3
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
PING = b": keep alive\n\n"
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
REQUEST = ModelRequest(session="s", turn="t", messages=())
FAR = {
    "model_connect_timeout_s": 30.0,
    "model_first_token_timeout_s": 30.0,
    "model_idle_timeout_s": 30.0,
    "model_total_timeout_s": 30.0,
}


def delta(text: str = "", **more: object) -> bytes:
    whole = {"choices": [{"index": 0, "delta": {"content": text or None, **more}}]}
    return b"data: " + json.dumps(whole).encode() + b"\n\n"


def calling(arguments: str) -> bytes:
    return delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "look", "arguments": arguments}}])


class Hanging:
    """A server that reads a request, then writes `begins` and, every 20 ms for ever, `goes_on`."""

    def __init__(
        self, begins: bytes = b"", goes_on: bytes = b"", *, times: int | None = None, ends: bytes = b""
    ) -> None:
        self.begins = begins
        self.goes_on = goes_on
        self.times = times
        self.ends = ends
        self.asked = 0
        self.closed = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            self.asked += 1
            writer.write(self.begins)
            talk = asyncio.create_task(self._talk(writer))
            await reader.read()  # the client has left
            self.closed.set()
            talk.cancel()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed.set()
        finally:
            writer.close()

    async def _talk(self, writer: asyncio.StreamWriter) -> None:
        said = 0
        while self.goes_on and (self.times is None or said < self.times):
            await asyncio.sleep(0.02)
            writer.write(self.goes_on)
            said += 1
        writer.write(self.ends)


Call = Callable[..., Any]


@pytest.fixture
async def call() -> AsyncIterator[Call]:
    """Ask once, through the owner of retries, with these limits; every other one is far away."""
    opened: list[Any] = []

    async def ask(
        server: Hanging | str, *, deadline_s: float | None = None, attempts: int = 1, **limits: Any
    ) -> ModelDone:
        url = server
        if isinstance(server, Hanging):
            listener = await asyncio.start_server(server.answer, "127.0.0.1", 0)
            opened.append(listener)
            url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
        settings = ModelSettings(
            model_url=url, model="m", model_coalesce_ms=5, model_attempts=attempts, **{**FAR, **limits}
        )
        model = OpenAICompatibleModel(settings)
        try:
            return await ModelCaller(model, settings, chance=lambda: 0.0).ask(
                REQUEST,
                piece=lambda chunk: None,
                deadline_ms=None if deadline_s is None else (time.time() + deadline_s) * 1000,
            )
        finally:
            await model.close()

    yield ask
    for listener in opened:
        listener.close()


@contextmanager
def limited(limit: str) -> Iterator[None]:
    """The call ends by that limit: typed, transient, named, and in time."""
    began_s = time.monotonic()
    with pytest.raises(ModelTimedOut, match=f"time-out: {limit}") as caught:
        yield
    took_s = time.monotonic() - began_s
    assert caught.value.limit == limit
    assert (isinstance(caught.value, RetryableError), caught.value.code) == (True, Code.MODEL_ERROR)
    assert LIMIT_S * 0.9 <= took_s < LIMIT_S + 1.0


async def test_no_connection_because_the_server_takes_none(call: Call) -> None:
    """Its backlog is full: the handshake of TCP is never answered."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(4)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        with limited("connect"):
            await call(f"http://127.0.0.1:{full.getsockname()[1]}/v1", model_connect_timeout_s=LIMIT_S)
        for other in others:
            other.close()


async def test_no_connection_because_the_server_says_nothing_of_tls(call: Call) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with limited("connect"):
            await call(f"https://127.0.0.1:{mute.getsockname()[1]}/v1", model_connect_timeout_s=LIMIT_S)


async def test_no_connection_through_a_proxy_that_says_nothing(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client library's own way."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(4)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{full.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with limited("connect"):
            await call("http://model.example/v1", model_connect_timeout_s=LIMIT_S)
        for other in others:
            other.close()


@pytest.mark.parametrize(
    "server",
    [(b"", b""), (HEAD, b""), (HEAD, PING), (HEAD + delta(role="assistant"), PING)],
    ids=["no answer", "head alone", "comments", "a role alone"],
)
async def test_no_first_token(call: Call, server: tuple[bytes, bytes]) -> None:
    hanging = Hanging(*server)
    with limited("first_token"):
        await call(hanging, model_first_token_timeout_s=LIMIT_S)
    await asyncio.wait_for(hanging.closed.wait(), 0.2)


@pytest.mark.parametrize(
    "server",
    [(HEAD + delta("so"), b""), (HEAD + delta("so"), PING), (HEAD + calling('{"x"'), b""), (HEAD + calling("{"), PING)],
    ids=["silence", "comments", "half a tool call", "comments after half a tool call"],
)
async def test_no_next_token(call: Call, server: tuple[bytes, bytes]) -> None:
    hanging = Hanging(*server)
    with limited("idle"):
        await call(hanging, model_idle_timeout_s=LIMIT_S)
    await asyncio.wait_for(hanging.closed.wait(), 0.2)


async def test_no_end(call: Call) -> None:
    hanging = Hanging(HEAD, delta("so "))
    with limited("total"):
        await call(hanging, model_total_timeout_s=LIMIT_S)
    await asyncio.wait_for(hanging.closed.wait(), 0.2)


@pytest.mark.parametrize("goes_on", [delta("so "), calling("1")], ids=["text", "a long tool call"])
async def test_a_slow_answer_within_its_limits_is_whole(call: Call, goes_on: bytes) -> None:
    slow = Hanging(HEAD, goes_on, times=40, ends=STOP + b"data: [DONE]\n\n")
    done = await call(slow, model_first_token_timeout_s=LIMIT_S, model_idle_timeout_s=LIMIT_S)
    assert done.finish == "stop"


@pytest.mark.parametrize(
    "server",
    [(b"", b""), (HEAD, PING), (HEAD + delta("so"), b""), (HEAD, delta("so "))],
    ids=["no answer", "no first token", "no next token", "no end"],
)
async def test_the_turns_deadline_comes_before_all_of_them(call: Call, server: tuple[bytes, bytes]) -> None:
    hanging = Hanging(*server)
    began_s = time.monotonic()
    with pytest.raises(TerminalError, match="during a model call") as caught:
        await call(hanging, deadline_s=LIMIT_S, attempts=4)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert LIMIT_S * 0.9 <= time.monotonic() - began_s < LIMIT_S + 1.0
    assert hanging.asked == 1
    await asyncio.wait_for(hanging.closed.wait(), 0.2)


async def test_after_its_deadline_a_turn_costs_no_call(call: Call) -> None:
    hanging = Hanging(HEAD, delta("so "))
    with pytest.raises(TerminalError) as caught:
        await call(hanging, deadline_s=-0.001, attempts=4)
    assert (caught.value.code, hanging.asked) == (Code.DEADLINE_EXCEEDED, 0)


async def test_a_time_out_is_tried_again(call: Call) -> None:
    hanging = Hanging(HEAD, PING)
    with pytest.raises(ModelTimedOut):
        await call(hanging, model_first_token_timeout_s=0.1, attempts=3)
    assert hanging.asked == 3


async def test_a_server_that_is_not_there_is_no_time_out(call: Call) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        await call(f"http://127.0.0.1:{free_port()}/v1")
    assert not isinstance(caught.value, ModelTimedOut)
