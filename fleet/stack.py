"""Everything that `fleet up` runs: which parts, in which order they start, and in which order they drain."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine, Mapping
from socket import gethostname
from types import MappingProxyType
from typing import Any

from fleet import broker_part, model_part, mongod_part
from fleet.data_dir import DataDir, Running, RunningPart
from fleet.keeper import Keeper
from fleet.leftovers import MARK
from fleet.part import Part
from fleet.ports import Ports
from fleet.progress import Progress
from fleet.service_part import gateway_part, reachable, worker_part
from fleet.topics import provision, regroup
from schemas.settings import (
    GatewaySettings,
    KafkaSettings,
    ModelSettings,
    MongoSettings,
    WorkerSettings,
    provider_of,
)

_NONE: Mapping[str, str] = MappingProxyType({})


class Stack:
    """The parts of one `fleet up` on one data directory. `environ`: what they all get besides."""

    def __init__(self, data: DataDir, *, workers: int, progress: Progress, environ: Mapping[str, str] = _NONE) -> None:
        self.data = data
        self._count = workers
        self._progress = progress
        self._kafka = KafkaSettings()
        self._mongo = MongoSettings()
        self._model = ModelSettings()
        self._gateway = GatewaySettings()
        self._worker = WorkerSettings()
        self._started_ms = int(time.time() * 1000)
        # In the order in which they drain, each group at once.
        self._groups: dict[str, list[Keeper]] = {name: [] for name in ("gateway", "workers", "model", "base")}
        self._environ = {**os.environ, **environ, MARK: str(data.path)}
        self._address = ""
        self._embedded = False

    @property
    def address(self) -> str:
        """The chat page."""
        return f"{self._address}/"

    async def start(self) -> None:
        """Start everything; all of it is ready when this returns. Raises CannotStart (perhaps in a group)."""
        ports = Ports()
        model = self._model_part(ports)
        base = self._base(ports)
        services = self._services(ports)
        for note in ports.notes:
            self._progress.say(note)
        async with asyncio.TaskGroup() as tasks:
            if model is not None:
                tasks.create_task(self._start("model", model))
            await asyncio.gather(*(tasks.create_task(work) for work in base))
            for group, part in services:
                tasks.create_task(self._start(group, part))
        self._record()

    async def stop(self) -> None:
        """Drain in order: gateway, workers, model, then broker and database."""
        for keepers in self._groups.values():
            await asyncio.gather(*(keeper.stop() for keeper in keepers))

    def kill(self) -> None:
        """End everything at once."""
        for keepers in self._groups.values():
            for keeper in keepers:
                keeper.kill()

    def _model_part(self, ports: Ports) -> Part | None:
        if self._model.model_url or provider_of(self._model.model) != "openai":
            return None
        port = ports.choose("the model", model_part.PREFERRED_PORT)
        self._model = self._model.model_copy(update={"model_url": model_part.url(port)})
        return model_part.model_part(self.data, port, name=self._model.model)

    def _base(self, ports: Ports) -> list[Coroutine[Any, Any, None]]:
        """Broker and database, or, where they are somebody else's, only the topics."""
        work: list[Coroutine[Any, Any, None]] = []
        if self._kafka.kafka_bootstrap:
            work.append(provision(self._kafka))
        else:
            port = ports.choose("the broker", broker_part.PREFERRED_PORT)
            bootstrap = f"{broker_part.HOST}:{port}"
            self._kafka = self._kafka.model_copy(update={"kafka_bootstrap": bootstrap})
            self._embedded = True
            part = broker_part.broker_part(self.data, port, prepare=self._prepare_broker)
            work.append(self._start("base", part))
        if not self._mongo.mongo_uri:
            port = ports.choose("the database", mongod_part.PREFERRED_PORT)
            self._mongo = self._mongo.model_copy(update={"mongo_uri": mongod_part.uri(port)})
            work.append(self._start("base", mongod_part.mongod_part(self.data, port)))
        return work

    async def _prepare_broker(self) -> None:
        await provision(self._kafka)
        await regroup(self._kafka)

    async def _worker_died(self) -> None:
        """On Apache Kafka the next one of its name tells; the embedded broker would wait, perhaps for good."""
        if self._embedded:
            await regroup(self._kafka)

    def _services(self, ports: Ports) -> list[tuple[str, Part]]:
        environ = self._service_environ()
        host = self._gateway.gateway_host
        port = ports.choose("the gateway", self._gateway.gateway_port, host=host)
        self._address = f"http://{reachable(host)}:{port}"
        parts = [("gateway", gateway_part(self.data, host=host, port=port, environ=environ))]
        host, preferred = self._worker.worker_host, self._worker.worker_port
        for number in range(1, self._count + 1):
            port = ports.choose(f"worker {number}", preferred + number - 1 if preferred else 0, host=host)
            part = worker_part(
                self.data,
                number,
                host=host,
                port=port,
                environ={**environ, **({} if self._embedded else {"FLEET_WORKER_NAME": f"{gethostname()}-{number}"})},
                grace_s=self._worker.worker_grace_s,
                bereaved=self._worker_died,
            )
            parts.append(("workers", part))
        return parts

    def _service_environ(self) -> Mapping[str, str]:
        return {
            "FLEET_KAFKA_BOOTSTRAP": self._kafka.kafka_bootstrap,
            "FLEET_MONGO_URI": self._mongo.mongo_uri,
            "FLEET_MODEL_URL": self._model.model_url,
            "FLEET_MODEL": self._model.model,
        }

    async def _start(self, group: str, part: Part) -> None:
        keeper = Keeper(part, environ=self._environ, say=self._progress.say, changed=self._record)
        self._groups[group].append(keeper)
        self._progress.starting(part.name)
        await keeper.start()
        self._progress.ready(part.name, f"port {part.port}" if part.port else "")

    def _record(self) -> None:
        keepers = [keeper for group in self._groups.values() for keeper in group if keeper.run is not None]
        running = Running(
            pid=os.getpid(),
            started_ms=self._started_ms,
            gateway=self._address,
            kafka_bootstrap=self._kafka.kafka_bootstrap,
            mongo_uri=self._mongo.mongo_uri,
            model_url=self._model.model_url,
            topic_prefix=self._kafka.topic_prefix,
            mongo_database=self._mongo.mongo_database,
            parts=tuple(_running_part(keeper) for keeper in keepers),
        )
        self.data.write(running)


def _running_part(keeper: Keeper) -> RunningPart:
    pid = keeper.run.pid if keeper.run is not None else 0
    return RunningPart(name=keeper.part.name, pid=pid, port=keeper.part.port, log=str(keeper.part.log))
