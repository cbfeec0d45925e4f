"""The adapter before servers of every manner: a socket, the bytes that a test gives, and what was asked."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from schemas.history import said
from schemas.settings import ModelSettings
from workers.models.openai_compatible import OpenAICompatibleModel
from workers.models.port import (
    ModelChunk,
    ModelDone,
    ModelMisconfigured,
    ModelRateLimited,
    ModelRefused,
    ModelRequest,
    ModelUnavailable,
    OutputSpec,
    Timeouts,
)

SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
Serve = Callable[..., Any]


def delta(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode() + b"\n\n"


def closed(body: bytes, head: bytes = SSE) -> bytes:
    """A response that ends with its connection."""
    return head + b"Connection: close\r\n\r\n" + body


def sized(status: str, body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status.encode(), *headers, b"Content-Length: %d" % len(body), b"", body]
    return b"\r\n".join(lines)


class Provider:
    """Answers the requests of all connections with `answers`, one after the other, each written byte for byte."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.heads: list[bytes] = []
        self.bodies: list[dict[str, Any]] = []
        self.connections = 0
        self.url = ""

    async def serve(self, context: ssl.SSLContext | None = None) -> asyncio.Server:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=context)
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        return server

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(next(line for line in head.lower().split(b"\r\n") if b"content-length" in line).split()[1])
                self.heads.append(head)
                self.bodies.append(json.loads(await reader.readexactly(length)))
                answer = self.answers.pop(0)
                writer.write(answer)
                await writer.drain()
                if b"connection: close" in answer.lower():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def provided() -> AsyncIterator[Callable[..., Any]]:
    """A model before a provider that gives these answers."""
    opened: list[Any] = []

    async def provide(*answers: bytes, **settings: Any) -> tuple[OpenAICompatibleModel, Provider]:
        provider = Provider(*answers)
        server = await provider.serve()
        model = OpenAICompatibleModel(ModelSettings(model_url=provider.url, model="m", model_coalesce_ms=5, **settings))
        opened.append((server, model))
        return model, provider

    yield provide
    for server, model in opened:
        await model.close()
        server.close()
        await server.wait_closed()


def request(text: str = "hi") -> ModelRequest:
    limits = Timeouts(connect_s=2, first_token_s=3, idle_s=3, total_s=5)
    messages = (said(item="t~0", turn="t", role="user", text=text, at_ms=0),)
    return ModelRequest(session="s:1", turn="t:1", messages=messages, timeouts=limits)


async def answer(model: OpenAICompatibleModel) -> tuple[str, ModelDone]:
    texts: list[str] = []
    async with model.stream(request()) as pieces:
        async for piece in pieces:
            if isinstance(piece, ModelChunk):
                texts.append(piece.text)
            else:
                return "".join(texts), piece
    raise AssertionError("no end")


@pytest.mark.parametrize(
    "body",
    [
        delta("Hä") + delta("llo") + STOP + b"data: [DONE]\n\n",
        (delta("Hä") + delta("llo") + STOP + b"data: [DONE]\n\n").replace(b"\n", b"\r\n"),
        b": ping\n\n" + delta("Hä") + b": ping\n\n" + delta("llo") + b"data: [DONE]\n\n",
        delta("Hä") + delta("llo") + STOP,
        delta("Hä") + delta("llo") + STOP.rstrip(b"\n"),
        delta("Hä") + delta("llo") + STOP + b'data: {"choices":[]}\n\n',
        b'{"choices":\n\n[{"index":0,"message":{"content":"H\xc3\xa4llo"},"finish_reason":"stop"}]}'.replace(
            b"\n", b""
        ),
    ],
    ids=["plain", "crlf", "comments", "no done", "no last line end", "empty choices", "not streamed"],
)
async def test_servers_that_do_it_their_own_way_are_understood(provided: Serve, body: bytes) -> None:
    model, _ = await provided(closed(body))
    assert (await answer(model))[0] == "Hällo"


async def test_text_is_whole_wherever_packets_are_cut(provided: Serve) -> None:
    body = delta("Hä") + delta("😀") + STOP
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    model, _ = await provided(SSE + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert (await answer(model))[0] == "Hä😀"


async def test_a_compressed_stream_is_left_to_the_client_library(provided: Serve) -> None:
    zipped = closed(gzip.compress(delta("Hello") + STOP), SSE + b"Content-Encoding: gzip\r\n")
    model, provider = await provided(zipped, zipped)
    assert (await answer(model))[0] == "Hello"
    assert (model.wires, len(provider.heads)) == (None, 2)


async def test_the_request_names_session_and_turn_in_headers_and_no_user(provided: Serve) -> None:
    model, provider = await provided(closed(STOP), model_key="k-1")
    await answer(model)
    head = provider.heads[0].lower()
    for line in (
        b"x-fleet-session: s:1",
        b"x-fleet-turn: t:1",
        b"authorization: bearer k-1",
        b"accept-encoding: identity",
    ):
        assert line in head
    assert head.startswith(b"post /v1/chat/completions http/1.1\r\n")
    assert provider.bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


async def test_a_server_that_refuses_the_usage_option_is_asked_once_more_and_remembered(provided: Serve) -> None:
    refusal = sized("400 Bad Request", b'{"error":{"message":"unknown field: stream_options"}}')
    model, provider = await provided(refusal, closed(delta("a") + STOP), closed(delta("b") + STOP))
    text, done = await answer(model)
    assert (text, done.usage) == ("a", None)
    assert (await answer(model))[0] == "b"
    assert ["stream_options" in body for body in provider.bodies] == [True, False, False]


async def test_a_server_that_refuses_structured_output_is_asked_once_more_and_remembered(provided: Serve) -> None:
    refusal = sized("400 Bad Request", b'{"error":{"message":"response_format is not supported"}}')
    model, provider = await provided(refusal, closed(delta("{}") + STOP), closed(delta("{}") + STOP))
    asked = replace(request(), output=OutputSpec("answer", {"type": "object"}))
    for _ in range(2):
        async with model.stream(asked) as pieces:
            assert [piece.text async for piece in pieces if isinstance(piece, ModelChunk)] == ["{}"]
    assert ["response_format" in body for body in provider.bodies] == [True, False, False]
    assert model.with_usage


async def test_another_refusal_is_not_asked_again(provided: Serve) -> None:
    model, provider = await provided(sized("400 Bad Request", b'{"error":{"message":"no such model"}}'))
    with pytest.raises(ModelRefused, match="no such model"):
        await answer(model)
    assert len(provider.bodies) == 1
    assert model.with_usage


async def test_a_limit_brings_the_moment_to_come_again(provided: Serve) -> None:
    model, _ = await provided(sized("429 Too Many Requests", b"slow", b"Retry-After: 7"))
    with pytest.raises(ModelRateLimited) as caught:
        await answer(model)
    assert caught.value.after_s == 7.0


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (closed(delta("so far") + b'data: {"error":{"message":"overloaded","code":529}}\n\n'), ModelUnavailable),
        (closed(delta("so far") + b'data: {"error":{"type":"invalid_request_error"}}\n\n'), ModelRefused),
        (closed(delta("so far")), ModelUnavailable),
        (closed(delta("so far") + b"data: {nonsense\n\n"), ModelUnavailable),
        (closed(delta("so far") + delta("x")[:-9]), ModelUnavailable),
        (SSE + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nda", ModelUnavailable),
        (b"Connection: close, said the SSH server\r\n", ModelUnavailable),
        (closed(b"<html>welcome</html>"), ModelUnavailable),
        (sized("500 Oh", b"<html>", b"Connection: close"), ModelUnavailable),
        (sized("401 No", b'{"error":{"message":"wrong key"}}'), ModelRefused),
    ],
    ids=["error", "refusal", "cut", "nonsense", "half an event", "half a chunk", "no http", "html", "500", "401"],
)
async def test_what_goes_wrong_is_typed(provided: Serve, reply: bytes, kind: type[Exception]) -> None:
    model, _ = await provided(reply)
    with pytest.raises(kind):
        await answer(model)


async def test_headers_and_comments_are_no_first_token(provided: Serve) -> None:
    model, provider = await provided(SSE + b"Transfer-Encoding: chunked\r\n\r\na\r\n: ping\r\n\r\n\r\n")
    impatient = replace(request(), timeouts=Timeouts(first_token_s=0.15, idle_s=30, total_s=30))
    async with asyncio.timeout(2):
        with pytest.raises(ModelUnavailable, match=r"nothing within 0\.15 s"):
            async with model.stream(impatient) as pieces:
                await anext(pieces)
    assert len(provider.heads) == 1


async def test_a_cut_after_the_finish_costs_only_the_usage(provided: Serve) -> None:
    head = SSE + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = delta("all") + STOP
    model, _ = await provided(head + b"%x\r\n%s\r\n" % (len(body), body))
    assert await answer(model) == ("all", ModelDone("stop", model="m"))


async def test_a_connection_is_used_again_and_one_that_was_closed_is_not(provided: Serve) -> None:
    good = sized("200 OK", delta("a") + STOP + b"data: [DONE]\n\n", b"Content-Type: text/event-stream")
    model, provider = await provided(good, good, closed(STOP), good)
    for _ in range(4):
        await answer(model)
        await asyncio.sleep(0.02)
    assert provider.connections == 2


async def test_nobody_there_is_typed() -> None:
    server = await Provider().serve()
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    model = OpenAICompatibleModel(ModelSettings(model_url=f"http://127.0.0.1:{port}/v1"))
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        await answer(model)
    await model.close()


async def test_no_address_is_refused_with_what_to_do() -> None:
    model = OpenAICompatibleModel(ModelSettings(model_url=""))
    with pytest.raises(ModelRefused, match="FLEET_MODEL_URL"):
        await answer(model)
    await model.close()


async def test_a_line_end_behind_the_key_is_left_out(provided: Serve) -> None:
    model, provider = await provided(closed(STOP), model_key="k-1\n")
    await answer(model)
    assert b"\r\nAuthorization: Bearer k-1\r\n" in provider.heads[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"model_url": "http://h/v1", "model_key": "k\r\nx-evil: 1"},
        {"model_url": "http://h/v1", "model_key": "k\nx-evil: 1"},
        {"model_url": "http://h/v1", "model_key": "schlüssel"},
    ]
    + [{"model_url": url} for url in ("ftp://h/v1", "nonsense", "http://")],
    ids=["smuggled header", "the same with LF", "no ascii", "ftp", "nonsense", "no host"],
)
def test_an_address_or_key_that_is_none_is_refused_in_a_sentence(settings: dict[str, str]) -> None:
    with pytest.raises(ModelMisconfigured, match="FLEET_MODEL_URL and FLEET_MODEL_KEY"):
        OpenAICompatibleModel(ModelSettings.model_validate(settings))


async def test_a_redirect_is_followed_and_remembered(provided: Serve) -> None:
    _, other = await provided(closed(delta("here") + STOP), closed(delta("again") + STOP))
    moved = sized("308 Moved", b"", b"Location: " + other.url.encode() + b"/chat/completions")
    model, provider = await provided(moved, moved, moved)
    assert [(await answer(model))[0], (await answer(model))[0]] == ["here", "again"]
    assert model.wires is None
    assert (len(provider.heads), len(other.heads)) == (3, 2)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody signed, with its key in the same file."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert, both = folder / "key.pem", folder / "cert.pem", folder / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=here"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command + names, check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + cert.read_bytes())
    return both


@pytest.mark.parametrize("trusted", [True, False])
async def test_certificates_are_verified(certificate: Path, monkeypatch: pytest.MonkeyPatch, *, trusted: bool) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    provider = Provider(closed(delta("safe") + STOP))
    server = await provider.serve(context)
    model = OpenAICompatibleModel(ModelSettings(model_url=provider.url))
    if trusted:
        assert (await answer(model))[0] == "safe"
    else:
        with pytest.raises(ModelUnavailable, match=r"(?i)certificate"):
            await answer(model)
        assert provider.heads == []
    await model.close()
    server.close()


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Provider(closed(delta("through ") + delta("it") + STOP))
    server = await proxy.serve()
    monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
    monkeypatch.delenv("no_proxy", raising=False)
    model = OpenAICompatibleModel(ModelSettings(model_url="http://model.invalid/v1", model_coalesce_ms=5))
    assert (await answer(model))[0] == "through it"
    assert proxy.heads[0].startswith(b"POST http://model.invalid/v1/chat/completions HTTP/1.1")
    await model.close()
    server.close()
    await server.wait_closed()


def test_it_runs_on_the_loop_that_workers_use() -> None:
    async def check() -> str:
        provider = Provider(closed(delta("fast") + STOP))
        server = await provider.serve()
        model = OpenAICompatibleModel(ModelSettings(model_url=provider.url))
        text, _ = await answer(model)
        await model.close()
        server.close()
        return text

    assert uvloop.run(check()) == "fast"
