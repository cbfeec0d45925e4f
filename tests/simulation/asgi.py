"""One HTTP request between a client and a gateway's application: what a server does in between, in virtual time.

The application is the one that ships (`gateway.app`). What is under way arrives late, in order; what is under way when
the line is cut is lost. As uvicorn does it, an application that writes to a client that is gone is told nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import orjson

from tests.simulation.faulty import Pipe
from tests.simulation.virtual import EMPTY, Process, VirtualLoop
from tests.simulation.weather import Weather

Json = dict[str, Any]
GONE = {"type": "http.disconnect"}


class Request(NamedTuple):
    """What a client asks. `after`: its `Last-Event-ID`."""

    method: str
    path: str
    query: str = ""
    body: Json | None = None
    stream: bool = False
    after: str = ""


class Exchange:
    """A request under way. `status` and `headers` once they came; `handled` by the application."""

    def __init__(self, loop: VirtualLoop, weather: Weather, process: Process, request: Request, user: str) -> None:
        self.status = 0
        self.handled: asyncio.Task[None] | None = None
        self.headers: dict[str, str] = {}
        self.scope = _scope(request, user)
        self._weather = weather
        self._up, self._down = Pipe(loop, weather, process.context), Pipe(loop, weather, EMPTY)
        self._inbox: asyncio.Queue[Json] = asyncio.Queue()
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._cut = False
        self._body = orjson.dumps(request.body) if request.body is not None else b""

    def go(self, handle: Any) -> None:
        """The request arrives, in the process of the gateway."""
        self._inbox.put_nowait({"type": "http.request", "body": self._body, "more_body": False})
        self._up.put(handle, self)

    # the application's end

    async def receive(self) -> Json:
        """The request's body, then that the client is gone or has its answer."""
        return await self._inbox.get()

    async def send(self, message: Json) -> None:
        """A slow line makes what waits behind it be joined."""
        if self._cut:
            return
        self._down.put(self._arrive, message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._inbox.put_nowait(GONE)
        if self._weather.happens("slow line", 0.1):
            await asyncio.sleep(self._weather.delay_s())

    # the client's end

    async def next(self, patience_s: float) -> bytes | None:
        """The next bytes of the answer's body; None: there are no more, the line is cut, or nothing came so long."""
        try:
            async with asyncio.timeout(patience_s):
                return None if self._cut else await self._chunks.get()
        except TimeoutError:
            self.cut()
            return None

    async def whole(self, patience_s: float) -> bytes | None:
        """The answer's whole body; None: it did not come."""
        body = b""
        while not self._cut:
            chunk = await self.next(patience_s)
            if chunk is None:
                break
            body += chunk
        return None if self._cut or not self.status else body

    def cut(self) -> None:
        """The client drops the line."""
        self._cut = True
        self._up.put(self._inbox.put_nowait, GONE)

    def lost(self) -> None:
        """The gateway's process is gone."""
        self._cut = True
        self._down.put(self._chunks.put_nowait, None)

    @property
    def is_cut(self) -> bool:
        """Whether the answer's end was not heard."""
        return self._cut

    def _arrive(self, message: Json) -> None:
        if self._cut:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            self._chunks.put_nowait(b"")
            return
        self._chunks.put_nowait(message.get("body", b""))
        if not message.get("more_body", False):
            self._chunks.put_nowait(None)


def _scope(request: Request, user: str) -> Json:
    """As uvicorn makes it."""
    headers = [(b"host", b"fleet"), (b"x-fleet-user", user.encode())]
    if request.stream:
        headers.append((b"accept", b"text/event-stream"))
    if request.after:
        headers.append((b"last-event-id", request.after.encode()))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": request.query.encode(),
        "root_path": "",
        "headers": headers,
        "client": ("client", 1),
        "server": ("fleet", 80),
        "state": {},
    }
