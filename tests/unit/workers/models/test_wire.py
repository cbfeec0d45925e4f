"""One connection's bytes: what its reader gets, when it may be used again. No network: the transport is a stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from workers.models.wire import Broken, Wire

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"


class FakeTransport:
    """Remembers what the wire did to it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return "abort" in self.done

    def __getattr__(self, name: str) -> Callable[[], None]:
        return lambda: self.done.append(name)


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
def wire(transport: FakeTransport) -> Wire:
    wire = Wire()
    wire.connection_made(cast(asyncio.Transport, transport))
    wire.send(b"request")
    return wire


async def now(awaitable: Awaitable[Any]) -> Any:
    """What is there without waiting."""
    async with asyncio.timeout(0):
        return await awaitable


async def test_chunks_that_came_together_are_read_together(wire: Wire) -> None:
    wire.data_received(HEAD + b"2\r\nab\r\n1\r\nc\r\n")
    await now(wire.head())
    assert (wire.status, wire.headers) == (200, [(b"Transfer-Encoding", b"chunked"), (b"X-A", b"b")])
    assert await now(wire.read()) == b"abc"
    wire.data_received(b"1\r\nd\r\n0\r\n\r\n")
    assert [await now(wire.read()), await now(wire.read())] == [b"d", b""]
    assert wire.reusable


async def test_a_reader_waits_for_what_is_cut_anywhere(wire: Wire) -> None:
    head = asyncio.create_task(wire.head())
    body = HEAD + b"3\r\nabc\r\n0\r\n\r\n"
    for place in range(len(body)):
        await asyncio.sleep(0)
        assert head.done() == (place >= len(HEAD)), place
        wire.data_received(body[place : place + 1])
    assert [await now(wire.read()), await now(wire.read())] == [b"abc", b""]


async def test_a_pause_lasts_until_the_next_read(wire: Wire, transport: FakeTransport) -> None:
    wire.data_received(HEAD + b"1\r\na\r\n")
    await now(wire.read())
    wire.pause()
    wire.pause()
    assert transport.done == ["pause_reading"]
    reading = asyncio.create_task(wire.read())
    await asyncio.sleep(0)
    assert transport.done == ["pause_reading", "resume_reading"]
    wire.data_received(b"1\r\nb\r\n")
    assert await reading == b"b"


async def test_a_reader_that_does_not_come_stops_the_server(wire: Wire, transport: FakeTransport) -> None:
    wire.data_received(HEAD)
    for _ in range(18):
        wire.data_received(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    assert transport.done == ["pause_reading"]
    assert len(await now(wire.read())) == 18 * 65536


async def test_a_cut_is_told_after_what_came_before_it(wire: Wire) -> None:
    wire.data_received(HEAD + b"2\r\nab\r\n")
    wire.connection_lost(None)
    assert await now(wire.read()) == b"ab"
    with pytest.raises(Broken):
        await wire.read()


async def test_a_server_that_leaves_without_a_word_is_told_at_once(wire: Wire) -> None:
    waiting = asyncio.create_task(wire.head())
    await asyncio.sleep(0)
    wire.connection_lost(ConnectionResetError())
    with pytest.raises(Broken):
        await waiting


async def test_a_body_without_a_length_ends_with_the_connection(wire: Wire) -> None:
    wire.data_received(b"HTTP/1.1 200 OK\r\n\r\nabc")
    wire.connection_lost(None)
    assert [await now(wire.read()), await now(wire.read())] == [b"abc", b""]
    assert not wire.reusable


async def test_a_body_with_a_length_that_stays_short_is_a_cut(wire: Wire) -> None:
    wire.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
    wire.connection_lost(None)
    assert await now(wire.read()) == b"abc"
    with pytest.raises(Broken):
        await wire.read()


async def test_an_interim_answer_is_no_answer(wire: Wire) -> None:
    wire.data_received(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 No\r\ncontent-length: 0\r\n\r\n")
    await now(wire.head())
    assert (wire.status, await now(wire.read())) == (429, b"")


async def test_what_is_no_http_is_refused_and_cut(wire: Wire, transport: FakeTransport) -> None:
    wire.data_received(b"SSH-2.0-x\r\n")
    with pytest.raises(Broken):
        await wire.head()
    assert transport.done == ["abort"]


async def test_a_second_exchange_begins_clean(wire: Wire, transport: FakeTransport) -> None:
    wire.data_received(HEAD + b"1\r\na\r\n0\r\n\r\n")
    wire.send(b"again")
    waiting = asyncio.create_task(wire.head())
    await asyncio.sleep(0)
    assert not waiting.done()
    wire.data_received(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nz")
    await waiting
    assert [await now(wire.read()), await now(wire.read()), wire.reusable] == [b"z", b"", False]
    assert transport.sent == b"requestagain"
