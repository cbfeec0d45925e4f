"""The two things that are compared, side by side on one stack: the yardstick and the product's services. Starts the
services as an operator would, by their commands and settings, and imports nothing of them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from pymongo import AsyncMongoClient

from loadtest import yardstick
from loadtest.kafka_lane import KafkaLane
from loadtest.processes import Child, free_port
from loadtest.socket_lane import SocketLane
from loadtest.stack import Stack


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of it: `repetitions` of each measured thing, `scale` shortens or lengthens every run; `against`: a
    commit to compare with."""

    seed: int = 1
    repetitions: int = 3
    scale: float = 1.0
    against: str = ""


@dataclass(frozen=True, slots=True)
class Product:
    """A worker, and a gateway if one was asked for."""

    lane: KafkaLane
    worker: Child
    worker_url: str
    gateway: Child | None
    gateway_url: str
    database: str
    env: Mapping[str, str]


class Bench:
    """Starts sides on a stack; each has topics, group and database of its own."""

    def __init__(self, stack: Stack, plan: Plan) -> None:
        self.stack = stack
        self.plan = plan

    @asynccontextmanager
    async def yardstick(self) -> AsyncIterator[tuple[KafkaLane, Child]]:
        """The yardstick, reading; and a lane to it."""
        prefix = new_prefix()
        turns, replies = await yardstick.create_topics(self.stack.bootstrap, prefix)
        options = ["--bootstrap", self.stack.bootstrap, "--mongo", self.stack.mongo_uri, "--prefix", prefix]
        child = self.stack.start("yardstick", "loadtest", "yardstick", *options)
        try:
            await child.ready_line()
            lane = KafkaLane(self.stack.bootstrap, turns=turns, replies=replies)
            await lane.start()
            try:
                yield lane, child
            finally:
                await lane.stop()
        finally:
            await self.stack.end(child)

    @asynccontextmanager
    async def model(self) -> AsyncIterator[tuple[str, Child]]:
        """The scripted model; its base address (ends with /v1)."""
        child = self.stack.start("model", "loadtest", "model")
        try:
            yield await child.ready_line(), child
        finally:
            await self.stack.end(child)

    @asynccontextmanager
    async def product(
        self, settings: Mapping[str, str] | None = None, *, gateway: bool = False, tree: Path | None = None
    ) -> AsyncIterator[Product]:
        """One worker process, ready, with its topics; `settings` are FLEET_ variables without the prefix; `tree`: where
        its code is, if it is not this one."""
        prefix, ports = new_prefix(), (free_port(), free_port())
        database = prefix.strip("-").replace("-", "_")
        listening = {"FLEET_WORKER_PORT": str(ports[0]), "FLEET_GATEWAY_PORT": str(ports[1])}
        env = (
            self.env(prefix, database)
            | listening
            | {f"FLEET_{name.upper()}": value for name, value in (settings or {}).items()}
        )
        if tree is not None:
            env |= {"PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}
        await self.apply_topics(env)
        worker = self.stack.start("worker", "workers", **env)
        edge = self.stack.start("gateway", "gateway", **env) if gateway else None
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        try:
            await worker.ready_url(f"{urls[0]}/readyz")
            if edge is not None:
                await edge.ready_url(f"{urls[1]}/readyz")
            topics = {name: f"{prefix}agent.{name}" for name in ("turns", "replies", "control")}
            lane = KafkaLane(self.stack.bootstrap, **topics)
            await lane.start()
            try:
                yield Product(lane, worker, urls[0], edge, urls[1], database, env)
            finally:
                await lane.stop()
        finally:
            await self.stack.end(worker)
            if edge is not None:
                await self.stack.end(edge)

    async def another(self, product: Product, *, worker_name: str = "") -> Child:
        """One more worker beside that of `product`, ready; whoever asked for it ends it, or the stack does."""
        port = free_port()
        env = {**product.env, "FLEET_WORKER_PORT": str(port), "FLEET_WORKER_NAME": worker_name}
        worker = self.stack.start("worker", "workers", **env)
        await worker.ready_url(f"http://127.0.0.1:{port}/readyz")
        return worker

    @asynccontextmanager
    async def sockets(self, product: Product, count: int) -> AsyncIterator[SocketLane]:
        """A lane over `count` WebSockets of the product's gateway."""
        lane = SocketLane(product.gateway_url, sockets=count)
        await lane.start()
        try:
            yield lane
        finally:
            await lane.stop()

    @asynccontextmanager
    async def mongo(self) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
        """A client of the database server, for what it counts itself."""
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(self.stack.mongo_uri)
        try:
            yield client
        finally:
            await client.close()

    def env(self, prefix: str, database: str) -> dict[str, str]:
        """The settings of what runs on this stack."""
        return {
            "FLEET_KAFKA_BOOTSTRAP": self.stack.bootstrap,
            "FLEET_MONGO_URI": self.stack.mongo_uri,
            "FLEET_MONGO_DATABASE": database,
            "FLEET_TOPIC_PREFIX": prefix,
            "FLEET_AGENT": "echo",
            "FLEET_GATEWAY_FRAMES_PER_S": "1000000",
            "FLEET_GATEWAY_FRAMES_BURST": "1000000",
            "FLEET_LOG_LEVEL": "warning",
        }

    async def apply_topics(self, env: Mapping[str, str]) -> None:
        """Create the topics under the prefix of `env`."""
        child = self.stack.start("topics", "fleet", "topics", "apply", **env)
        code = await child.wait(timeout_s=30)
        if code:
            raise child.failure(f"ended with exit code {code}")
        await self.stack.end(child)


async def metrics(url: str) -> dict[str, float]:
    """The samples of a Prometheus text page, by name with labels as written."""
    async with httpx.AsyncClient(timeout=5.0) as client:
        text = (await client.get(f"{url}/metrics")).text
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def total(samples: dict[str, float], name: str) -> float | None:
    """The sum over all labels of the metric `name`; None if there is no such metric."""
    found = [value for key, value in samples.items() if key.partition("{")[0] == name]
    return sum(found) if found else None


def new_prefix() -> str:
    """A topic prefix that nothing else has."""
    return f"load-{secrets.token_hex(4)}-"
