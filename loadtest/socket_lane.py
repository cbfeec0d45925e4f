"""Turns and frames over WebSockets of the gateway, as a browser has them. Knows the protocol of the contract only."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from loadtest.answers import Request
from loadtest.generator import Heard

PROTOCOL = Subprotocol("turnfleet.v1")


class SocketLane:
    """Spreads sessions over `sockets` connections; a session stays on its socket."""

    def __init__(self, gateway_url: str, *, sockets: int = 1, user: str = "load") -> None:
        self._url = f"ws://{urlsplit(gateway_url).netloc}/v1/ws?user={user}"
        self._count = sockets
        self._heard: Heard = lambda _frame, _at_s: None
        self._outgoing: list[asyncio.Queue[bytes]] = []
        self._sockets: list[ClientConnection] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.errors: list[Mapping[str, Any]] = []
        self.closed: list[str] = []

    async def start(self) -> None:
        """Connect all sockets and read each one's `hello`."""
        for number in range(self._count):
            socket = await connect(self._url, subprotocols=[PROTOCOL], compression=None, max_size=None)
            hello = orjson.loads(await socket.recv())
            if hello.get("type") != "hello":
                raise RuntimeError(f"the gateway did not begin with hello but with {hello}")
            queue: asyncio.Queue[bytes] = asyncio.Queue()
            self._sockets.append(socket)
            self._outgoing.append(queue)
            self._tasks.append(asyncio.create_task(self._write(socket, queue), name=f"socket {number} writes"))
            self._tasks.append(asyncio.create_task(self._read(socket), name=f"socket {number} reads"))

    async def stop(self) -> None:
        """Close all sockets."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(socket.close() for socket in self._sockets))

    def listen(self, heard: Heard) -> None:
        self._heard = heard

    def submit(self, request: Request, agent: str) -> None:
        frame = {"type": "turn", "session": request.session, "turn": request.turn, "agent": agent, "text": request.text}
        number = zlib.crc32(request.session.encode()) % self._count
        self._outgoing[number].put_nowait(orjson.dumps(frame))

    async def _write(self, socket: ClientConnection, queue: asyncio.Queue[bytes]) -> None:
        while True:
            await socket.send(await queue.get(), text=True)

    async def _read(self, socket: ClientConnection) -> None:
        try:
            while True:
                text = await socket.recv(decode=False)
                at_s = time.monotonic()
                frame = orjson.loads(text)
                if frame["type"] == "error":
                    self.errors.append(frame)
                self._heard(frame, at_s)
        except ConnectionClosed as closed:
            self.closed.append(str(closed))
