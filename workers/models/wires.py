"""Posts to one HTTP server over as many connections as there are exchanges. Knows no model, no proxy, no redirect."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from workers.models.wire import Broken, NotConnected, Wire

# Below the 5 s after which common servers close an idle connection: a request must not meet the closing one.
KEEP_ALIVE_S = 4.0


class Wires:
    """Connections to the server of `url`; idle ones are kept for a while. `headers` go with every request.

    TLS is verified with the system's certificates. Raises ValueError for an address or a header that is none.
    """

    def __init__(self, url: str, headers: Mapping[str, str], *, keep_alive_s: float = KEEP_ALIVE_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it is no address of an HTTP server")
        self._host = parts.hostname
        self._secure = parts.scheme == "https"
        self._port = parts.port or (443 if self._secure else 80)
        self._path = parts.path + (f"?{parts.query}" if parts.query else "")
        self._head = _lines({"Host": parts.netloc.rpartition("@")[2], **headers})
        self._keep_alive_s = keep_alive_s
        self._context: ssl.SSLContext | None = None
        self._idle: dict[Wire, asyncio.TimerHandle] = {}

    async def post(self, body: bytes, headers: Mapping[str, str], *, connect_s: float) -> Reply:
        """One exchange, until status and headers are here. Raises Broken; when cancelled, the connection is cut."""
        more = _lines({**headers, "Content-Length": str(len(body))})
        wire = self._take() or await self._connect(connect_s)
        try:
            wire.send(b"POST %b HTTP/1.1\r\n%b%b\r\n%b" % (self._path.encode("ascii"), self._head, more, body))
            await wire.head()
        except BaseException:
            wire.close()
            raise
        return Reply(wire, self)

    def give_back(self, wire: Wire) -> None:
        """An exchange is over: keep the connection if it may serve another, else cut it."""
        if wire.whole and wire.reusable and wire.open:
            self._idle[wire] = asyncio.get_running_loop().call_later(self._keep_alive_s, self._expire, wire)
        else:
            wire.close()

    def close(self) -> None:
        """Cut idle connections."""
        while wire := self._take():
            wire.close()

    def _take(self) -> Wire | None:
        while self._idle:
            wire, timer = self._idle.popitem()
            timer.cancel()
            if wire.open:
                return wire
        return None

    def _expire(self, wire: Wire) -> None:
        self._idle.pop(wire, None)
        wire.close()

    async def _connect(self, limit_s: float) -> Wire:
        if self._secure and self._context is None:
            self._context = await asyncio.to_thread(ssl.create_default_context)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limit_s):
                _, wire = await loop.create_connection(Wire, self._host, self._port, ssl=self._context)
        except TimeoutError:
            raise NotConnected(f"no connection to {self._host}:{self._port} in time", limit_s) from None
        except OSError as error:
            raise Broken(f"no connection to {self._host}:{self._port}: {error}") from error
        return wire


class Reply:
    """The answer to one request: its status and headers, and its body as it comes."""

    __slots__ = ("_wire", "_wires", "headers", "status")

    def __init__(self, wire: Wire, wires: Wires) -> None:
        self.status = wire.status
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in wire.headers}
        self._wire: Wire | None = wire
        self._wires = wires

    async def read(self) -> bytes:
        """What has come of the body; empty at its end. Raises Broken."""
        return await self._wire.read() if self._wire is not None else b""

    def pause(self) -> None:
        """Let what comes gather until the next read."""
        if self._wire is not None:
            self._wire.pause()

    async def close(self) -> None:
        """Give the connection back, or cut it if the body is not over. Safe to call twice."""
        wire, self._wire = self._wire, None
        if wire is not None:
            self._wires.give_back(wire)


def _lines(headers: Mapping[str, str]) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    try:
        whole = "".join(f"{line}\r\n" for line in lines).encode("ascii")
    except UnicodeEncodeError:
        raise ValueError("a header holds a character that is not ASCII") from None
    if whole.count(b"\r") != len(lines) or whole.count(b"\n") != len(lines):
        raise ValueError("a header holds a line end")
    return whole
