"""Whole workers on the shipped in-memory twins, on one loop: the product's own code between a broker and a store."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from io import StringIO
from typing import Any

from broker.memory import MemoryAdmin, MemoryCluster, MemoryGroupConsumer, MemoryPublisher
from broker.partition import partition_of
from broker.port import Outgoing
from broker.topics import apply
from journal.loader import load
from journal.memory import MemoryStore
from journal.port import Cap
from journal.state import State
from schemas.settings import SessionSettings, WorkerSettings
from schemas.topics import load_topics
from workers.agent import AgentSpec
from workers.builder import Builder
from workers.contained import contain
from workers.executor import Executor
from workers.ledger.bank import Bank
from workers.ledger.prices import NO_PRICES
from workers.logs import TurnLog
from workers.outbox import Outbox
from workers.partition import CONTROL, TURNS
from workers.registry import Registry
from workers.services import Services
from workers.system import Parts
from workers.worker import Worker

TERMINAL = {"completed", "failed", "cancelled"}


class MemoryFleet:
    """Start with `await fleet.worker()`; produce with `turn`, `control`, `raw`; read with `frames`."""

    def __init__(self, *agents: AgentSpec, default: str = "echo", **settings: Any) -> None:
        self.cluster = MemoryCluster()
        self.store = MemoryStore()
        self.settings = WorkerSettings(**{"worker_drain_s": 0.2, "worker_grace_s": 1.0, **settings})
        self.sessions = SessionSettings()
        self.agents = agents
        self.default = default
        self.workers: list[tuple[Worker, MemoryGroupConsumer]] = []
        self.models: Any = None
        self.log = StringIO()
        self.clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
        self.clock_ns: Callable[[], int] = time.perf_counter_ns
        self.prices = NO_PRICES
        self.caps: dict[str, Cap] = {}
        self._topics = load_topics(None)
        self._names = itertools.count(1)

    async def __aenter__(self) -> MemoryFleet:
        contain(asyncio.get_running_loop())
        await apply(MemoryAdmin(self.cluster), self._topics)
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker, _consumer in self.workers:
            await worker.drain()

    async def worker(self) -> Worker:
        """One more worker, joined."""
        loop = asyncio.get_running_loop()
        publisher = MemoryPublisher(self.cluster, self._topics.names)
        await publisher.start()
        registry = Registry.load((), "echo")
        registry.add(self.agents, "the test")
        registry.default = self.default
        consumer = MemoryGroupConsumer(self.cluster, "workers", (TURNS, CONTROL), session_timeout_s=0.3)
        name = f"w{next(self._names)}"
        bank = Bank(self.store.budgets, self.caps, clock_ms=self.clock_ms)
        services = Services(
            self.models,
            self.clock_ms,
            profiles=self.store.profiles,
            count=lambda metric, label: worker.system.metrics.count(metric, label),
            clock_ns=self.clock_ns,
            prices=self.prices,
            bank=bank,
        )
        parts = Parts(
            store=self.store,
            consumer=consumer,
            outbox=Outbox(publisher, call_later=loop.call_later),
            registry=registry,
            builder=Builder(),
            executor=Executor(services, call_later=loop.call_later),
            turn_log=TurnLog(enabled=True, call_later=loop.call_later, stream=self.log),
            clock_ms=self.clock_ms,
            clock_s=loop.time,
            call_later=loop.call_later,
        )
        worker = Worker(parts, publisher, name=name, settings=self.settings, sessions=self.sessions)
        await worker.start()
        self.workers.append((worker, consumer))
        return worker

    # producing

    def raw(self, topic: str, key: bytes | None, value: bytes | None, **fields: Any) -> None:
        """Any record; `partition` and `headers` as given, else the key's partition and none."""
        count = self.cluster.topics[topic].partitions
        partition = fields.pop("partition", partition_of(key or b"", count))
        self.cluster.append(topic, partition, Outgoing(topic, key, value, partition, **fields))

    def turn(self, session: str, text: str = "hi", **fields: Any) -> None:
        """A turn record."""
        self.raw(TURNS, session.encode(), json.dumps({"text": text, **fields}).encode())

    def control(self, session: str, **fields: Any) -> None:
        """A control record."""
        self.raw(CONTROL, session.encode(), json.dumps(fields).encode())

    # reading

    def frames(self, session: str | None = None, kind: str | None = None) -> list[dict[str, Any]]:
        """Every frame on the reply topic, in order by partition."""
        out = []
        for partition in range(self.cluster.topics["agent.replies"].partitions):
            for record in self.cluster.log("agent.replies", partition).records:
                frame = json.loads(record.value or b"{}")
                if session in {None, frame["session"]} and kind in {None, frame["type"]}:
                    out.append(frame)
        return out

    def terminals(self) -> dict[str, list[dict[str, Any]]]:
        """Terminal frames by `session~turn`, repeated ones once."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for frame in self.frames():
            name = f"{frame['session']}~{frame['turn']}" if "turn" in frame else ""
            if frame["type"] in TERMINAL and frame not in found[name]:
                found[name].append(frame)
        return found

    def records(self, topic: str) -> list[Any]:
        """Every record of a topic."""
        count = self.cluster.topics[topic].partitions
        return [record for partition in range(count) for record in self.cluster.log(topic, partition).records]

    async def state(self, session: str) -> State:
        """The session's state as the store has it."""
        return (await load(self.store, f"default/{session}")).state

    def committed_everything(self) -> bool:
        """Every record of turns and control is settled in the workers' own view."""
        waiting: Counter[int] = Counter()
        for worker, _consumer in self.workers:
            for number, partition in worker.system.partitions.items():
                waiting[number] += sum(mark.waiting for mark in partition.marks.values())
        return not any(waiting.values())

    async def until(self, condition: Callable[[], object], timeout_s: float = 10.0) -> None:
        """Wait until `condition()` holds. AssertionError with the frames seen when it does not in time."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"not in time; frames: {self.frames()[-5:]}"
            await asyncio.sleep(0.002)
