"""The three clusters that the broker's contract suite runs on, behind one face, each test with names of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import uuid4

from broker.kafka_admin import KafkaAdmin
from broker.kafka_consumer import KafkaGroupConsumer
from broker.kafka_publisher import KafkaPublisher
from broker.kafka_scan import KafkaScan
from broker.kafka_tail import KafkaTail
from broker.memory import MemoryAdmin, MemoryCluster, MemoryGroupConsumer, MemoryPublisher, MemoryScan, MemoryTail
from broker.port import Admin, Assignment, GroupConsumer, Publisher, Record, Scan, Tail, TopicState
from schemas.settings import KafkaSettings

PATIENCE_S = 30.0
TOPICS = ("turns", "control", "out")
"""`turns` and `control` are co-partitioned (6); `out` has 3 partitions and takes records up to 100,000 bytes."""


class World(Protocol):
    """A cluster, and what the ports' adapters are there. `expires`: a silent member is dropped after a while.
    `tells_ids`: topics have ids."""

    expires: bool
    tells_ids: bool

    def admin(self) -> Admin: ...
    def publisher(self) -> Publisher: ...
    def consumer(self) -> GroupConsumer: ...
    def tail(self) -> Tail: ...
    def scan(self) -> Scan: ...
    def silence(self, consumer: GroupConsumer) -> None: ...
    def wake(self, consumer: GroupConsumer) -> None: ...


@dataclass
class MemoryWorld:
    """The twins over one MemoryCluster."""

    cluster: MemoryCluster = field(default_factory=lambda: MemoryCluster(prefix="memory."))
    expires: bool = True
    tells_ids: bool = True

    def admin(self) -> Admin:
        return MemoryAdmin(self.cluster)

    def publisher(self) -> Publisher:
        return MemoryPublisher(self.cluster, TOPICS)

    def consumer(self) -> GroupConsumer:
        return MemoryGroupConsumer(self.cluster, "group", TOPICS[:2], session_timeout_s=0.5)

    def tail(self) -> Tail:
        return MemoryTail(self.cluster)

    def scan(self) -> Scan:
        return MemoryScan(self.cluster)

    def silence(self, consumer: GroupConsumer) -> None:
        assert isinstance(consumer, MemoryGroupConsumer)
        consumer.silence()

    def wake(self, consumer: GroupConsumer) -> None:
        assert isinstance(consumer, MemoryGroupConsumer)
        consumer.wake()


class KafkaWorld:
    """The aiokafka adapters against a broker at `address`, with a prefix of their own."""

    def __init__(
        self, address: str, *, expires: bool = True, tells_ids: bool = True, session_timeout_ms: int = 6_000
    ) -> None:
        self.expires, self.tells_ids = expires, tells_ids
        self._thaw = threading.Event()
        self.settings = KafkaSettings(
            kafka_bootstrap=address,
            topic_prefix=f"t{uuid4().hex[:10]}.",
            kafka_session_timeout_ms=session_timeout_ms,
            kafka_heartbeat_ms=200,
        )

    def admin(self) -> Admin:
        return KafkaAdmin(self.settings)

    def publisher(self) -> Publisher:
        return KafkaPublisher(self.settings, TOPICS)

    def consumer(self) -> GroupConsumer:
        return KafkaGroupConsumer(self.settings, "group", TOPICS[:2])

    def tail(self) -> Tail:
        return KafkaTail(self.settings)

    def scan(self) -> Scan:
        return KafkaScan(self.settings)

    def silence(self, consumer: GroupConsumer) -> None:
        """Block the consumer's own loop, as SIGSTOP would, until `wake`."""
        assert isinstance(consumer, KafkaGroupConsumer)
        assert consumer._loop is not None
        consumer._loop.call_soon_threadsafe(self._thaw.wait)

    def wake(self, consumer: GroupConsumer) -> None:
        self._thaw.set()


class Recorder:
    """A listener that writes everything down in order."""

    def __init__(self) -> None:
        self.assignments: list[Assignment] = []
        self.records: list[Record] = []
        self.told: list[tuple[str, int]] = []
        self.errors: list[BaseException] = []
        self._news = asyncio.Event()

    def assigned(self, assignment: Assignment) -> None:
        self.assignments.append(assignment)
        self.told.append(("assigned", assignment.generation))
        self._news.set()

    def received(self, generation: int, records: Sequence[Record]) -> None:
        self.records.extend(records)
        self.told.append(("received", generation))
        self._news.set()

    def failed(self, error: BaseException) -> None:
        self.errors.append(error)
        self._news.set()

    @property
    def generation(self) -> int:
        return self.assignments[-1].generation if self.assignments else 0

    @property
    def partitions(self) -> frozenset[int]:
        return self.assignments[-1].partitions if self.assignments else frozenset()

    def values(self, topic: str) -> list[bytes | None]:
        """Values received of the topic whose name on the cluster ends so."""
        return [record.value for record in self.records if record.topic.endswith(topic)]

    async def until(self, what: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        """Wait until something holds; AssertionError with what there is if it does not come true."""
        try:
            async with asyncio.timeout(patience_s):
                while not what():
                    assert not self.errors, self.errors
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            last = self.assignments[-1:]
            raise AssertionError(f"did not come true; {len(self.records)} records, last assignment {last}") from None

    async def until_records(self, count: int) -> None:
        """Wait for at least so many records."""
        await self.until(lambda: len(self.records) >= count)

    async def until_partitions(self, count: int) -> None:
        """Wait until exactly so many partitions are assigned."""
        await self.until(lambda: len(self.partitions) == count)

    async def quiet(self, still_s: float = 0.5) -> None:
        """Wait for a moment in which nothing is told."""
        while True:
            before = len(self.told)
            await asyncio.sleep(still_s)
            if len(self.told) == before:
                return


async def make_topics(world: World) -> None:
    """Create the three topics of the suite."""
    admin = world.admin()
    try:
        await admin.create(TopicState("turns", 6, 1, {}))
        await admin.create(TopicState("control", 6, 1, {}))
        await admin.create(TopicState("out", 3, 1, {"max.message.bytes": "100000"}))
    finally:
        await admin.stop()
