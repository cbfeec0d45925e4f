"""Three brokers of Apache Kafka, replication 3, min ISR 2: one is killed while acks=all sends go on; none is lost."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest

from broker.kafka_admin import KafkaAdmin
from broker.kafka_publisher import KafkaPublisher
from broker.kafka_scan import KafkaScan
from broker.port import BrokerUnavailable, Outgoing
from broker.topics import apply, check
from schemas.settings import KafkaSettings
from schemas.topics import load_topics
from tests.support.kafka_jvm import jvm_cluster, missing_tools
from tests.support.process import Server

REPLIES = "agent.replies"
PARTITIONS = 4
READY_S, RECOVERED_S = 30.0, 15.0

pytestmark = [pytest.mark.kafka_jvm, pytest.mark.timeout(180)]


@pytest.fixture
def brokers() -> Iterator[list[Server]]:
    lacking = missing_tools()
    if lacking is not None:
        pytest.skip(lacking)
    with jvm_cluster(3) as servers:
        yield servers


async def joined(admin: KafkaAdmin, count: int) -> None:
    async with asyncio.timeout(READY_S):
        while True:
            try:
                if await admin.brokers() == count:
                    return
            except BrokerUnavailable:
                pass
            await asyncio.sleep(0.1)


async def in_the_log(settings: KafkaSettings) -> dict[int, list[int]]:
    """The numbers on each partition, from the brokers that are left."""
    found: dict[int, list[int]] = defaultdict(list)
    async for records in KafkaScan(settings).read(REPLIES):
        for record in records:
            found[record.partition].append(int(record.value or b""))
    return found


class Sending:
    """Numbered records on every partition of the replies, until told to stop; when each was acknowledged."""

    def __init__(self, publisher: KafkaPublisher) -> None:
        self.acked: dict[int, list[int]] = defaultdict(list)
        self.errors: list[Exception] = []
        self.slowest_s = 0.0
        self.sent = 0
        self.over = False
        self._publisher = publisher

    async def run(self) -> None:
        while not self.over:
            partition = self.sent % PARTITIONS
            record = Outgoing(REPLIES, b"s", b"%d" % self.sent, partition=partition)
            self._publisher.publish(record, self._note(partition, self.sent, time.monotonic()))
            self.sent += 1
            await asyncio.sleep(0.002)

    def _note(self, partition: int, number: int, sent_s: float) -> Callable[[Exception | None], None]:
        def note(error: Exception | None) -> None:
            if error is not None:
                self.errors.append(error)
                return
            self.acked[partition].append(number)
            self.slowest_s = max(self.slowest_s, time.monotonic() - sent_s)

        return note


async def test_a_broker_killed_under_sends_costs_nothing_and_they_go_on_within_15_s(brokers: list[Server]) -> None:
    settings = KafkaSettings(kafka_bootstrap=",".join(server.address for server in brokers))
    admin, publisher = KafkaAdmin(settings), KafkaPublisher(settings, (REPLIES,))
    try:
        await joined(admin, 3)
        assert (await apply(admin, load_topics(None))).refused == ()
        assert await check(admin, load_topics(None)) == [], "with three brokers nothing is shrunk"
        found = (await admin.describe([REPLIES]))[REPLIES]
        assert (found.replication_factor, found.config["min.insync.replicas"]) == (3, "2")
        await publisher.start()
        sending = Sending(publisher)
        running = asyncio.create_task(sending.run())
        await asyncio.sleep(1.0)
        before = sending.sent
        await asyncio.to_thread(brokers[0].kill)  # of four partitions each broker leads at least one
        await joined(admin, 2)
        await asyncio.sleep(2.0)
        sending.over = True
        await running
        async with asyncio.timeout(RECOVERED_S):
            await publisher.flush()
        stored = await in_the_log(settings)
    finally:
        await publisher.stop()
        await admin.stop()

    assert sending.sent > before + 500
    assert not sending.errors
    for partition in range(PARTITIONS):
        wanted = list(range(partition, sending.sent, PARTITIONS))
        assert sending.acked[partition] == wanted
        assert stored[partition] == wanted, "lost, doubled or reordered"
    assert sending.slowest_s < RECOVERED_S
    print(f"\n{sending.sent} records, the slowest was acknowledged after {sending.slowest_s:.1f} s")
