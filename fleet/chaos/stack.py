"""The stack that a chaos run breaks: brokers, databases, model, gateway, workers as processes of their own.

With addresses given, broker and database are somebody else's, and only our own processes are started.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass, field
from pathlib import Path

from broker.kafka_admin import KafkaAdmin
from broker.port import BrokerUnavailable
from fleet import broker_part, mongod_part
from fleet.chaos.link import Link, Route
from fleet.chaos.process import Process
from fleet.replica_set import SET_NAME, initiate
from fleet.topics import provision, regroup
from loadtest import apache_kafka
from loadtest.processes import Child, PartFailed, free_port
from schemas.settings import KafkaSettings, MongoSettings

HOST = "127.0.0.1"
QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
"""A JVM that is started again and again beside everything else: less compiling, less said."""
START_S = 20.0
"""Services may try again for so long: the embedded broker gives who joins beside others nothing at all at times."""
READY_S, JOINED_POLL_S = 60.0, 0.1
SESSION_TIMEOUT_MS = 6_000
"""The least that Apache Kafka takes as it is shipped."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What is started. `bootstrap`, `mongo_uri`: given from outside, else empty; `network`: our services reach broker
    and database through links that can be broken."""

    kafka: str = "apache"
    brokers: int = 1
    mongods: int = 1
    workers: int = 2
    bootstrap: str = ""
    mongo_uri: str = ""
    prefix: str = ""
    database: str = "turnfleet"
    session_timeout_ms: int = SESSION_TIMEOUT_MS
    network: bool = False


@dataclass(slots=True)
class Stack:
    """`async with`: everything runs and is ready. `folder` keeps data and logs."""

    shape: Shape
    folder: Path
    workers: list[Process] = field(default_factory=list)
    mongods: list[Process] = field(default_factory=list)
    brokers: list[Process] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    gateway: Process | None = None
    model: Process | None = None
    bootstrap: str = ""
    mongo_uri: str = ""
    model_url: str = ""
    gateway_url: str = ""
    _doors: dict[str, list[Link]] = field(default_factory=dict)
    _all: list[Process] = field(default_factory=list)
    _watching: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Stack:
        try:
            await self._start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    @property
    def kafka(self) -> KafkaSettings:
        """How the broker is reached."""
        return KafkaSettings(kafka_bootstrap=self.bootstrap, topic_prefix=self.shape.prefix)

    @property
    def mongo(self) -> MongoSettings:
        """How the database is reached."""
        return MongoSettings(mongo_uri=self.mongo_uri, mongo_database=self.shape.database)

    @property
    def processes(self) -> list[Process]:
        """All that we started."""
        return self._all

    def describe(self) -> dict[str, object]:
        """What runs here, for a report."""
        shape = self.shape
        return {
            "kafka": f"Apache Kafka {apache_kafka.VERSION}" if shape.kafka == "apache" else shape.kafka,
            "brokers": shape.brokers,
            "mongod": mongod_part.version() if shape.mongods else "given",
            "mongods": shape.mongods,
            "workers": shape.workers,
            "session_timeout_ms": shape.session_timeout_ms,
        }

    async def _start(self) -> None:
        self.bootstrap, self.mongo_uri = self.shape.bootstrap, self.shape.mongo_uri
        if not self.mongo_uri:
            await self._start_mongods()
        if not self.bootstrap:
            await self._start_brokers()
        await provision(self.kafka)
        await self._start_model()
        await self._start_services()
        self._watching = [asyncio.create_task(one.watch(), name=f"watch {one.name}") for one in self._all]

    async def _start_mongods(self) -> None:
        ports = [free_port() for _ in range(self.shape.mongods)]
        self.addresses = [f"{HOST}:{port}" for port in ports]
        for number, port in enumerate(ports, 1):
            data = self.folder / f"mongod-{number}"
            data.mkdir(parents=True)
            where = ("--dbpath", str(data), "--port", str(port), "--bind_ip", HOST, "--nounixsocket")
            size = ("--wiredTigerCacheSizeGB", "0.25", "--wiredTigerEngineConfigString", mongod_part.ENGINE)
            command = (str(mongod_part.binary()), "--replSet", SET_NAME, *where, *size, "--oplogSize", "256", "--quiet")
            self.mongods.append(self._process(f"mongod-{number}", command, port=port))
        await asyncio.gather(*(mongod.start() for mongod in self.mongods))
        await asyncio.wait_for(initiate(self.addresses), 60.0)
        self.mongo_uri = f"mongodb://{','.join(self.addresses)}/?replicaSet={SET_NAME}"

    async def _start_brokers(self) -> None:
        ports = [free_port() for _ in range(self.shape.brokers)]
        commands = await (self._apache(ports) if self.shape.kafka == "apache" else self._embedded(ports))
        names = ["broker"] if len(ports) == 1 else [f"broker-{number}" for number in range(1, len(ports) + 1)]
        self.brokers = [self._process(*one[:2], port=one[2]) for one in zip(names, commands, ports, strict=True)]
        await asyncio.gather(*(broker.start() for broker in self.brokers))
        self.bootstrap = ",".join(f"{HOST}:{port}" for port in ports)
        await self._all_joined()

    async def _embedded(self, ports: list[int]) -> list[tuple[str, ...]]:
        start = ("start", "--only", "kafka", "--host", HOST, "--kafka-port", str(ports[0]))
        return [(str(broker_part.binary()), *start, "--data-dir", str(self.folder / "broker"))]

    async def _apache(self, ports: list[int]) -> list[tuple[str, ...]]:
        place = self.folder / "broker"
        place.mkdir(parents=True)
        doors = [await self._make_doors() if self.shape.network else {} for _ in ports]
        nodes = [apache_kafka.Node(port, doors=door) for port, door in zip(ports, doors, strict=True)]
        for name, links in self._doors.items():
            self._routed(f"{name} to kafka", links)
        found = await asyncio.to_thread(apache_kafka.commands, place, nodes)
        return [(java, *QUICK, *rest) for java, *rest in found]

    async def _make_doors(self) -> dict[int, int]:
        """A link from each of our services to one broker, each with a listener of its own behind it."""
        doors: dict[int, int] = {}
        for name in self._names():
            inner, links = free_port(), self._doors.setdefault(name, [])
            link = await self._link(f"{name} to broker-{len(links) + 1}", inner)
            links.append(link)
            doors[inner] = link.port
        return doors

    def _routed(self, name: str, links: list[Link]) -> None:
        """Break them together, and, where there are several, each alone as well."""
        alone = [Route(link.name, [link]) for link in links] if len(links) > 1 else []
        self.routes += [Route(name, links), *alone]

    async def _all_joined(self) -> None:
        """Topics get as many replicas as there are brokers then, so all of them have to be there."""
        admin = KafkaAdmin(self.kafka)
        try:
            async with asyncio.timeout(READY_S):
                while await self._joined(admin) < self.shape.brokers:  # noqa: ASYNC110 - other processes
                    await asyncio.sleep(JOINED_POLL_S)
        except TimeoutError:
            raise PartFailed(f"{self.shape.brokers} brokers are no cluster after {READY_S:g} s") from None
        finally:
            await admin.stop()

    async def _joined(self, admin: KafkaAdmin) -> int:
        try:
            return await admin.brokers()
        except BrokerUnavailable:
            return 0

    async def _link(self, name: str, target: int) -> Link:
        link = Link(name, HOST, target)
        await link.start()
        self.links.append(link)
        return link

    def _names(self) -> list[str]:
        return [*(f"worker-{number}" for number in range(1, self.shape.workers + 1)), "gateway"]

    async def _start_model(self) -> None:
        port = free_port()
        self.model = self._process("model", (sys.executable, "-m", "loadtest", "model", "--port", str(port)), port=port)
        await self.model.start()
        self.model_url = f"http://{HOST}:{port}/v1"

    async def _start_services(self) -> None:
        *workers, edge = self._names()
        for name in workers:
            port = free_port()
            env = await self._env(name) | {"FLEET_WORKER_PORT": str(port)}
            self.workers.append(self._service(name, "workers", port, env))
        port = free_port()
        self.gateway_url = f"http://{HOST}:{port}"
        self.gateway = self._service(edge, "gateway", port, await self._env(edge) | {"FLEET_GATEWAY_PORT": str(port)})
        await asyncio.gather(*(one.revive(START_S) for one in (*self.workers, self.gateway)))

    async def _env(self, name: str) -> dict[str, str]:
        """With links of its own, where there are: to Kafka by its listener, to a set of one member directly."""
        doors, mongo_uri = self._doors.get(name, []), self.mongo_uri
        if self.shape.network and len(self.addresses) == 1:
            link = await self._link(f"{name} to mongod", int(self.addresses[0].rpartition(":")[2]))
            self._routed(link.name, [link])
            mongo_uri = f"mongodb://{HOST}:{link.port}/?replicaSet={SET_NAME}&directConnection=true"
        return {
            "FLEET_KAFKA_BOOTSTRAP": ",".join(f"{HOST}:{door.port}" for door in doors) or self.bootstrap,
            "FLEET_KAFKA_SESSION_TIMEOUT_MS": str(self.shape.session_timeout_ms),
            "FLEET_MONGO_URI": mongo_uri,
            "FLEET_MONGO_DATABASE": self.shape.database,
            "FLEET_TOPIC_PREFIX": self.shape.prefix,
            "FLEET_MODEL_URL": self.model_url,
            "FLEET_AGENT": "echo",
            "FLEET_AGENTS": "fleet.chaos.agents:agents",
            "FLEET_LOG_LEVEL": "warning",
        }

    def _process(self, name: str, command: tuple[str, ...], *, port: int) -> Process:
        async def ready(child: Child) -> None:
            await child.ready_port(port, READY_S)

        log = self.folder / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        return self._kept(Process(name, command, env={}, log=log, ready=ready))

    def _service(self, name: str, module: str, port: int, env: dict[str, str]) -> Process:
        async def ready(child: Child) -> None:
            await child.ready_url(f"http://{HOST}:{port}/readyz", READY_S)

        log = self.folder / f"{name}.log"
        bereaved = self._regroup if module == "workers" and self.shape.kafka == "embedded" else None
        command = (sys.executable, "-m", module)
        return self._kept(Process(name, command, env=env, log=log, ready=ready, bereaved=bereaved))

    async def _regroup(self) -> None:
        """The embedded broker never expires a member that was killed."""
        with contextlib.suppress(BrokerUnavailable):
            await regroup(self.kafka)

    def _kept(self, process: Process) -> Process:
        self._all.append(process)
        return process

    async def _end(self) -> None:
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        for process in reversed(self._all):
            await process.end()
        for link in self.links:
            await link.stop()
