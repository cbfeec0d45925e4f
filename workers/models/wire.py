"""HTTP/1.1 for streams: a transport for the client library whose reader may pause. Knows no model and no event.

Why not the library's own: parsed in Python chunk by chunk it costs 70 µs of CPU per delta, with this 8. The parser is
llhttp; while a reader pauses, the packets gather in the kernel's buffer and one read brings them all.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import cast

import httptools
import httpx2

# Below the 5 s after which common servers close an idle connection: a request must not meet the closing one.
KEEP_ALIVE_S = 4.0
_BUFFER_BYTES = 1024 * 1024
_Origin = tuple[str, str, int]


class Wire(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.status = 0
        self.reusable = False
        self.whole = False
        self.fault: Exception | None = None
        self._parts: list[bytes] = []
        self._bytes = 0
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(httpx2.RemoteProtocolError(f"the server does not speak HTTP/1.1: {error}"))
            self.close()
        if self._bytes > _BUFFER_BYTES:
            self.pause()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self.status and not self.whole and not self._framed() and error is None:
            self.whole = True
        elif not self.whole:
            self._fail(httpx2.ReadError(f"the connection was cut: {error or 'closed by the server'}"))
        self._wake()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self.headers = []
        self.status = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self.status = status if status >= 200 else 0

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)
        self._bytes += len(body)

    def on_message_complete(self) -> None:
        if self.status:
            self.whole = True
            self.reusable = self._parser.should_keep_alive()

    # What the reader calls.

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes) -> None:
        """Begin an exchange. The connection must be open and the last exchange whole."""
        self._parser = httptools.HttpResponseParser(self)
        self.status, self.whole, self.reusable = 0, False, False
        self._parts.clear()
        self._bytes = 0
        if self._transport is not None:
            self._transport.write(request)

    async def head(self) -> None:
        """Return once the status and the headers are here. Raises an httpx2 error if they never come."""
        while not self.status:
            await self._more()

    async def read(self) -> bytes:
        """All of the body that has come since the last time, at least a byte; empty at its end. Ends a pause.

        Raises an httpx2 error if the connection is cut.
        """
        if self._paused:
            self._paused = False
            if self._transport is not None:
                self._transport.resume_reading()
        while not self._parts:
            if self.whole:
                return b""
            await self._more()
        body = b"".join(self._parts)
        self._parts.clear()
        self._bytes = 0
        return body

    def pause(self) -> None:
        """Take nothing from the kernel until the next read: what comes gathers there, and slows the server if much."""
        if not self._paused and not self.whole and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def close(self) -> None:
        """Cut the connection at once; the server sees it, whatever it still has to send."""
        if self._transport is not None:
            self._transport.abort()

    def _framed(self) -> bool:
        return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self.headers)

    async def _more(self) -> None:
        if self.fault is not None:
            raise self.fault
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        self.fault = self.fault or error


class Body(httpx2.AsyncByteStream):
    """The body of a response, read through `wire`; given back or cut when it is closed."""

    def __init__(self, wire: Wire, transport: WireTransport, origin: _Origin) -> None:
        self.wire = wire
        self._transport = transport
        self._origin = origin
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while body := await self.wire.read():
            yield body

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._transport.give_back(self.wire, self._origin)


class WireTransport(httpx2.AsyncBaseTransport):
    """Connections to any number of servers, as many as there are exchanges; idle ones are kept for a while.

    TLS is verified by `context`, the system's certificates if none is given. The wire of a response stands in its
    extension `wire`. Speaks to no proxy.
    """

    def __init__(self, context: ssl.SSLContext | None = None, *, keep_alive_s: float = KEEP_ALIVE_S) -> None:
        self._context = context
        self._keep_alive_s = keep_alive_s
        self._idle: dict[_Origin, dict[Wire, asyncio.TimerHandle]] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One exchange, until the headers of the response. Raises httpx2's errors."""
        url = request.url
        origin = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        limits = request.extensions.get("timeout", {})
        body = await request.aread()
        wire = self._take(origin) or await self._connect(origin, limits.get("connect"))
        try:
            wire.send(_head(request) + body)
            async with asyncio.timeout(limits.get("read")):
                await wire.head()
        except TimeoutError:
            wire.close()
            raise httpx2.ReadTimeout("no answer in time", request=request) from None
        except BaseException:
            wire.close()
            raise
        stream = Body(wire, self, origin)
        return httpx2.Response(wire.status, headers=wire.headers, stream=stream, extensions={"wire": wire})

    def give_back(self, wire: Wire, origin: _Origin) -> None:
        """An exchange is over: keep the connection if it may serve another, else cut it."""
        if not (wire.whole and wire.reusable and wire.open):
            wire.close()
            return
        timer = asyncio.get_running_loop().call_later(self._keep_alive_s, self._expire, origin, wire)
        self._idle.setdefault(origin, {})[wire] = timer

    async def aclose(self) -> None:
        for idle in self._idle.values():
            for wire, timer in idle.items():
                timer.cancel()
                wire.close()
        self._idle.clear()

    def _take(self, origin: _Origin) -> Wire | None:
        idle = self._idle.get(origin, {})
        while idle:
            wire, timer = idle.popitem()
            timer.cancel()
            if wire.open:
                return wire
        return None

    def _expire(self, origin: _Origin, wire: Wire) -> None:
        self._idle[origin].pop(wire, None)
        wire.close()

    async def _connect(self, origin: _Origin, limit_s: float | None) -> Wire:
        scheme, host, port = origin
        if scheme == "https" and self._context is None:
            self._context = await asyncio.to_thread(ssl.create_default_context)
        secure = self._context if scheme == "https" else None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limit_s):
                _, wire = await loop.create_connection(Wire, host, port, ssl=secure)
        except TimeoutError:
            raise httpx2.ConnectTimeout(f"no connection to {host}:{port} in time") from None
        except OSError as error:
            raise httpx2.ConnectError(f"no connection to {host}:{port}: {error}") from error
        return wire


def _head(request: httpx2.Request) -> bytes:
    lines = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%s: %s" % header for header in request.headers.raw]
    if any(b"\r" in line or b"\n" in line for line in lines):
        raise httpx2.LocalProtocolError("a header holds a line end: look at the key", request=request)
    return b"\r\n".join(lines) + b"\r\n\r\n"
