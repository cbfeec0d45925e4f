"""One HTTP/1.1 connection whose reader may pause. Knows no model and no event.

Why not a client library's: parsed in Python chunk by chunk a delta costs 40 to 70 µs of CPU, with this 10. The parser
is llhttp; while a reader pauses, packets gather in the kernel's buffer and one read brings them all.
"""

from __future__ import annotations

import asyncio
from typing import cast

import httptools

_BUFFER_BYTES = 1024 * 1024


class Broken(Exception):
    """The connection failed, or what came over it is no HTTP."""


class NotConnected(Broken):
    """No connection within the limit. `after_s`: the limit."""

    def __init__(self, text: str, after_s: float) -> None:
        super().__init__(text)
        self.after_s = after_s


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
            self._fail(Broken(f"the server does not speak HTTP/1.1: {error}"))
            self.close()
        if self._bytes > _BUFFER_BYTES:
            self.pause()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self.status and not self.whole and not self._framed() and error is None:
            self.whole = True
        elif not self.whole:
            self._fail(Broken(f"the connection was cut: {error or 'closed by the server'}"))
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
        """Return once the status and the headers are here. Raises Broken if they never come."""
        while not self.status:
            await self._more()

    async def read(self) -> bytes:
        """All of the body that has come since the last time, at least a byte; empty at its end. Ends a pause.

        Raises Broken if the connection is cut.
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
