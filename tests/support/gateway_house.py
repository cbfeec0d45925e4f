"""A gateway served by uvicorn on a free port, over the twins and a stub worker; spoken to from outside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from broker.memory import MemoryCluster, MemoryPublisher, MemoryTail
from broker.port import TopicState
from gateway.compose import Ports, make_gateway
from gateway.gateway import Gateway
from gateway.publishing import Address
from gateway.serve import bind, serve
from journal.memory import MemoryStore
from schemas.ids import mint
from schemas.settings import GatewaySettings, SessionSettings
from tests.support.stub_worker import StubWorker

TOPICS = {"agent.turns": 1, "agent.control": 1, "agent.replies": 2}
Json = dict[str, Any]


@dataclass
class Served:
    """A gateway that runs. `address`: host and port."""

    gateway: Gateway
    address: str
    stop: asyncio.Event
    task: asyncio.Task[None]

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def http(self, user: str = "ann") -> httpx.AsyncClient:
        """A client that speaks for `user`."""
        return httpx.AsyncClient(base_url=self.url, headers={"X-Fleet-User": user}, timeout=10, trust_env=False)

    async def metrics(self) -> str:
        """What Prometheus reads."""
        async with self.http() as http:
            return (await http.get("/metrics")).text

    @asynccontextmanager
    async def socket(self, user: str = "ann", **options: Any) -> AsyncIterator[Client]:
        """A WebSocket of `user`, its `hello` read."""
        uri = f"ws://{self.address}/v1/ws?user={user}"
        async with connect(uri, subprotocols=[Subprotocol("turnfleet.v1")], proxy=None, **options) as connection:
            client = Client(connection)
            client.hello = await client.next()
            yield client


@dataclass
class Client:
    """A plain WebSocket client that keeps what it saw."""

    connection: ClientConnection
    hello: Json = field(default_factory=dict)
    seen: list[Json] = field(default_factory=list)

    async def say(self, **frame: Any) -> None:
        await self.connection.send(json.dumps(frame))

    async def next(self, timeout_s: float = 5.0) -> Json:
        async with asyncio.timeout(timeout_s):
            frame: Json = json.loads(await self.connection.recv())
        self.seen.append(frame)
        return frame

    async def until(self, kind: str, timeout_s: float = 5.0) -> Json:
        """Read on to the next frame of this type."""
        while True:
            frame = await self.next(timeout_s)
            if frame["type"] == kind:
                return frame

    async def closed(self, timeout_s: float = 10.0) -> int | None:
        """Read on to the end; the server's closing code."""
        try:
            while True:
                await self.next(timeout_s)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else None

    async def ask(self, **frame: Any) -> Json:
        """Send, and the answer with the same `ref`."""
        ref = mint()[:8]
        await self.say(ref=ref, **frame)
        while True:
            answer = await self.next()
            if answer.get("ref") == ref:
                return answer


class House:
    """Twins, a stub worker, and as many gateways as a test asks for. Twins that are given have workers of their own:
    then the stub is not started."""

    def __init__(self, cluster: MemoryCluster | None = None, store: MemoryStore | None = None) -> None:
        self.cluster = cluster or MemoryCluster()
        for name, partitions in TOPICS.items() if cluster is None else ():
            self.cluster.make(TopicState(name, partitions, 1, {}))
        self.store = store or MemoryStore()
        self._worker_publisher = MemoryPublisher(self.cluster, list(TOPICS))
        self.worker = StubWorker(self.cluster, self._worker_publisher, self.store)
        self._served: list[Served] = []
        self._publishers: list[MemoryPublisher] = []

    async def start(self) -> None:
        await self._worker_publisher.start()
        await self.worker.start()

    async def gateway(self, *, partition: int = 0, publish_s: float = 5.0, **settings: Any) -> Served:
        """One more gateway."""
        publisher = MemoryPublisher(self.cluster, list(TOPICS), timeout_s=publish_s)
        await publisher.start()
        self._publishers.append(publisher)

        async def writable() -> str | None:
            return None if await self.store.ping() else "no majority write works"

        async def reachable() -> str | None:
            return "no broker" if self.cluster.down else None

        ports = Ports(publisher, MemoryTail(self.cluster), self.store, {"mongodb": writable, "topics": reachable})
        gateway = make_gateway(
            ports, Address(partition, mint()[:12]), settings=GatewaySettings(**settings), sessions=SessionSettings(),
            registry=CollectorRegistry(),
        )  # fmt: skip
        await gateway.replies.start()
        bound, stop, up = bind("127.0.0.1", 0), asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(serve(gateway, bound, stop, up.set), name="served")
        await asyncio.wait([task, asyncio.create_task(up.wait())], return_when=asyncio.FIRST_COMPLETED)
        host, port = bound.getsockname()
        served = Served(gateway, f"{host}:{port}", stop, task)
        self._served.append(served)
        return served

    async def stop(self) -> None:
        for served in self._served:
            served.stop.set()
        for served in self._served:
            await served.task
        await self.worker.stop()
        for publisher in (*self._publishers, self._worker_publisher):
            await publisher.stop()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """A house with its worker; gateways are asked for."""
    made = House()
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
async def served(house: House) -> Served:
    """One gateway of that house, as the settings have it."""
    return await house.gateway()
