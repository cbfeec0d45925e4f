"""Gateways as processes on the twins, and the wire between one of their sockets and a client. Checks nothing.

The real gateway from its socket down: `gateway.socket.Socket` reads and writes a `Wire` instead of a connection.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from prometheus_client import CollectorRegistry
from starlette.websockets import WebSocketDisconnect

from broker.memory import MemoryCluster, MemoryTail
from broker.port import Record
from gateway.app import make_app
from gateway.compose import Ports, make_gateway
from gateway.gateway import Gateway
from gateway.identity import Principal
from gateway.publishing import Address
from gateway.replies import REPLIES
from gateway.server import HANG_UP
from gateway.socket import Socket
from journal.port import Store
from schemas.ids import mint
from schemas.settings import GatewaySettings, SessionSettings
from tests.simulation.asgi import Exchange, Request
from tests.simulation.faulty import FaultyJournal, FaultyPublisher, FaultyStore, Pipe
from tests.simulation.plan import TENANT
from tests.simulation.virtual import EMPTY, Process, VirtualLoop
from tests.simulation.weather import Weather

PUBLISH_S = 0.09
GONE = {"type": "websocket.disconnect", "code": 1006, "reason": ""}
Json = dict[str, Any]


class Wire:
    """A WebSocket as `gateway.socket` uses it, and its client's end. What is under way arrives late, in order; what is
    under way when the line is cut is lost."""

    def __init__(self, loop: VirtualLoop, weather: Weather, process: Process) -> None:
        self.scope = {"extensions": {HANG_UP: self._hang_up}}
        self._weather = weather
        self._up, self._down = Pipe(loop, weather, process.context), Pipe(loop, weather, EMPTY)
        self._inbox: asyncio.Queue[Json] = asyncio.Queue()
        self._frames: asyncio.Queue[str | None] = asyncio.Queue()
        self._cut = False

    # the gateway's end

    async def receive(self) -> Json:
        """The next frame of the client, or that it is gone."""
        return await self._inbox.get()

    async def send_text(self, raw: str) -> None:
        """A slow line makes what waits behind it be joined."""
        if self._cut:
            raise WebSocketDisconnect(1006)
        self._down.put(self._arrive, raw)
        if self._weather.happens("slow line", 0.1):
            await asyncio.sleep(self._weather.delay_s())

    def _hang_up(self, _code: int, _reason: str) -> None:
        self._inbox.put_nowait(GONE)
        self._down.put(self._arrive, None)

    # the client's end

    def say(self, **frame: Any) -> None:
        """A frame to the gateway."""
        self._up.put(self._inbox.put_nowait, {"type": "websocket.receive", "text": orjson.dumps(frame).decode()})

    async def next(self, patience_s: float) -> str | None:
        """The next frame; None: the line is cut, or nothing came for so long."""
        try:
            async with asyncio.timeout(patience_s):
                return None if self._cut else await self._frames.get()
        except TimeoutError:
            return None

    def cut(self) -> None:
        """The client drops the line."""
        self._cut = True
        self._up.put(self._inbox.put_nowait, GONE)

    def lost(self) -> None:
        """The gateway's process is gone."""
        self._cut = True
        self._down.put(self._frames.put_nowait, None)

    def _arrive(self, raw: str | None) -> None:
        if not self._cut:
            self._frames.put_nowait(raw)


class SlowTail:
    """The tail port: batches come a little later, in order."""

    def __init__(self, cluster: MemoryCluster, weather: Weather) -> None:
        self._twin = MemoryTail(cluster)
        self._weather = weather
        self.start, self.stop = self._twin.start, self._twin.stop

    async def batch(self) -> Sequence[Record]:
        found = await self._twin.batch()
        await asyncio.sleep(self._weather.delay_s())
        return found


class Front:
    """One gateway and its process. `kill` and `drain` end it; `gone` is called then, once."""

    def __init__(self, process: Process, loop: VirtualLoop, weather: Weather, gone: Callable[[Front], None]) -> None:
        self.process = process
        self._loop = loop
        self._weather = weather
        self._gone = gone
        self._wires: list[Wire | Exchange] = []
        self._app: Any = None
        self._gateway: Gateway | None = None
        self.leaving = False

    @property
    def fit(self) -> bool:
        """Whether it takes connections."""
        return self._gateway is not None and not (self.process.dead or self.process.frozen or self.leaving)

    async def run(self, cluster: MemoryCluster, topics: Sequence[str], store: Store) -> None:
        """As `python -m gateway`, without its HTTP server."""
        publisher = FaultyPublisher(cluster, topics, self._loop, self.process, self._weather, timeout_s=PUBLISH_S)
        while cluster.down:
            await asyncio.sleep(0.1)
        await publisher.start()
        partition = random.Random(self.process.name).randrange(publisher.partition_count(REPLIES))
        ports = Ports(publisher, SlowTail(cluster, self._weather), store, {})
        gateway = make_gateway(
            ports, Address(partition, mint()[:12]), settings=GatewaySettings(gateway_wait_max_s=5.0),
            sessions=SessionSettings(), registry=CollectorRegistry(),
        )  # fmt: skip
        await gateway.replies.start()
        self._gateway = gateway
        await gateway.replies.run()

    def connect(self, user: str) -> Wire:
        """A new socket of `user`."""
        assert self._gateway is not None
        wire = Wire(self._loop, self._weather, self.process)
        self._wires.append(wire)
        socket: Any = wire
        self._loop.call_soon(self._open, self._gateway, socket, Principal(TENANT, user), context=self.process.context)
        return wire

    def ask(self, request: Request, user: str) -> Exchange:
        """A request of `user` over HTTP."""
        exchange = Exchange(self._loop, self._weather, self.process, request, user)
        self._wires.append(exchange)
        exchange.go(self._handle)
        return exchange

    def _handle(self, exchange: Exchange) -> None:
        assert self._gateway is not None
        if self._app is None:
            self._app = make_app(self._gateway)
        exchange.handled = asyncio.create_task(
            self._app(exchange.scope, exchange.receive, exchange.send), name="request"
        )

    def _open(self, gateway: Gateway, socket: Any, who: Principal) -> None:
        running = asyncio.create_task(Socket(gateway, socket, who).run(), name="socket")
        gateway.open.add(running)
        running.add_done_callback(gateway.open.discard)

    def drain(self) -> None:
        """SIGTERM: its sockets are closed in order, then it ends."""
        if self._gateway is not None:
            self.leaving = True
            self._loop.call_soon(self._gateway.draining.set, context=self.process.context)
            self._loop.call_later(1.5, self.kill, context=EMPTY)

    def kill(self) -> None:
        """kill -9."""
        if not self.process.dead:
            self.process.kill()
            for wire in self._wires:
                wire.lost()
            self._gone(self)


def front_store(twin: Any, journal: Any, loop: VirtualLoop, weather: Weather) -> Store:
    """The store as a gateway reads it."""
    return FaultyStore(twin, FaultyJournal(journal, loop, weather, lambda _: None))
