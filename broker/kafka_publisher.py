"""Publishes to Kafka: one idempotent aiokafka producer, acks=all, linger 0, whole batches. Knows nothing of records.

One batch per partition is under way at a time and what comes meanwhile is the next one, so that nothing is reordered
and batches grow with the load. A batch that fails leaves a hole in the producer's sequence numbers (aiokafka counts
them when it first sends): the producer is then replaced, and every batch without an ack is sent again, in order.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTimestampError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    ProducerClosed,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnsupportedForMessageFormatError,
)

from broker.kafka_admin import KafkaAdmin
from broker.kafka_connect import client_options, in_time
from broker.lane import Entry, Lane
from broker.outbox import Outbox
from broker.port import Acked, BrokerUnavailable, Outgoing, Position, PublishError
from schemas.settings import KafkaSettings

log = logging.getLogger(__name__)

BATCH_BYTES = 262_144
DEFAULT_LIMIT_BYTES = 1_048_576
STOP_TIMEOUT_S = 5.0
SENDER_TIMEOUT_S = 1.0
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
REFUSED = (
    *TOO_LARGE,
    InvalidTimestampError,
    InvalidTopicError,
    PolicyViolationError,
    TopicAuthorizationFailedError,
    UnsupportedForMessageFormatError,
)


class KafkaPublisher:
    """The Publisher port on Apache Kafka, for the topics it is told (bare names). Used on one event loop."""

    def __init__(self, settings: KafkaSettings, topics: Sequence[str]) -> None:
        self._settings = settings
        self._topics = tuple(topics)
        self._wake = asyncio.Event()
        self._outbox = Outbox({}, self._wake.set)
        self._batch_bytes = BATCH_BYTES
        self._broken = False
        self._failures = 0
        self._stopped = False
        self._under_way: dict[Lane, asyncio.Future[Any]] = {}
        self._producer: Any = None
        self._drainer: asyncio.Task[None] | None = None

    def partition_count(self, topic: str) -> int:
        """How many partitions the topic has on the cluster (read at start). KeyError: not among this publisher's."""
        return self._outbox.partition_count(topic)

    async def start(self) -> None:
        """Read how the topics are cut, then connect. Raises BrokerUnavailable, also for a topic that does not exist."""
        lanes = await self._lanes()
        smallest = min((lane.limit_bytes for some in lanes.values() for lane in some), default=BATCH_BYTES)
        self._batch_bytes = min(BATCH_BYTES, smallest)
        self._outbox = Outbox(lanes, self._wake.set)
        self._producer = await in_time(self._settings, self._connect())
        self._drainer = asyncio.create_task(self._drain(), name="publisher")
        self._drainer.add_done_callback(self._ended)

    def publish(self, outgoing: Outgoing, acked: Acked | None = None) -> None:
        """Hand over and return at once; see the port."""
        self._outbox.publish(outgoing, acked)

    async def send(self, outgoing: Outgoing) -> Position:
        """Publish one and wait for the ack. PublishError: certainly not in the log. PublishUnknown: nobody knows.

        A position with offset −1 is in the log, but the broker no longer tells where.
        """
        return await self._outbox.send(outgoing, self._settings.kafka_publish_timeout_s)

    async def flush(self) -> None:
        """Wait until everything handed over is acknowledged."""
        await self._outbox.flush()

    async def stop(self) -> None:
        """Flush for at most 5 s, then close; what is left gets `acked(error)`. Safe to call twice."""
        if self._stopped:
            return
        self._stopped = True
        self._outbox.close()
        if self._drainer is not None:
            flushed = asyncio.ensure_future(self.flush())
            await asyncio.wait([flushed, self._drainer], timeout=STOP_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            flushed.cancel()
            self._drainer.cancel()
            await asyncio.wait([self._drainer])
        if self._producer is not None:
            await _discard(self._producer)
        self._outbox.give_up()
        self._abandon()

    async def _lanes(self) -> dict[str, list[Lane]]:
        admin = KafkaAdmin(self._settings)
        try:
            found = await admin.describe(self._topics)
        finally:
            await admin.stop()
        lanes = {}
        for topic in self._topics:
            if topic not in found:
                raise BrokerUnavailable(f"the cluster lacks the topic {topic}: run `fleet topics apply`")
            limit = int(found[topic].config.get("max.message.bytes", DEFAULT_LIMIT_BYTES))
            name = self._settings.topic_prefix + topic
            lanes[topic] = [Lane(name, partition, limit) for partition in range(found[topic].partitions)]
        return lanes

    async def _connect(self) -> Any:
        producer = AIOKafkaProducer(
            **client_options(self._settings, "publisher"),
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=self._batch_bytes,
        )
        try:
            await producer.start()
            for topic in self._topics:
                await producer.partitions_for(self._settings.topic_prefix + topic)
        except BaseException:
            await _discard(producer)
            raise
        return producer

    async def _drain(self) -> None:
        """Hand over whatever waits, lane by lane; acks come beside it, in `_answered`."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._broken:
                await self._replace()
            for lane in self._outbox.ready():
                await self._hand_over(lane)

    def _ended(self, drainer: asyncio.Task[None]) -> None:
        """A defect here must not leave callers waiting for ever."""
        if not drainer.cancelled() and drainer.exception() is not None:
            log.critical("the publisher ended", exc_info=drainer.exception())
            self._outbox.give_up()

    async def _hand_over(self, lane: Lane) -> None:
        batch = self._producer.create_batch()
        now = int(time.time() * 1000)

        def append(outgoing: Outgoing) -> bool:
            stamp = outgoing.timestamp_ms
            taken = batch.append(
                timestamp=now if stamp is None else stamp,
                key=outgoing.key,
                value=outgoing.value,
                headers=list(outgoing.headers),
            )
            return taken is not None

        self._outbox.settle(lane.take(append))
        if not lane.in_flight:
            return
        batch.close()
        try:
            future = await self._producer.send_batch(batch, lane.topic, partition=lane.partition)
        except Exception as error:  # noqa: BLE001  (whatever kept aiokafka from taking it: it is sent again)
            self._failed(lane, error)
            return
        self._under_way[lane] = future
        future.add_done_callback(partial(self._answered, lane, now))

    def _answered(self, lane: Lane, now: int, future: asyncio.Future[Any]) -> None:
        self._under_way.pop(lane, None)
        error = ProducerClosed() if future.cancelled() else future.exception()
        if error is not None:
            self._failed(lane, error)
            return
        self._failures = 0
        metadata = future.result()
        self._outbox.landed(lane, lambda entry, index: _position(lane, metadata, entry, index, now))

    def _failed(self, lane: Lane, error: BaseException) -> None:
        """Refused for good: tell it. Anything else: the batch waits again at the front, for another producer."""
        log.warning("publishing to %s/%d failed: %r", lane.topic, lane.partition, error)
        self._broken = True
        too_large = isinstance(error, TOO_LARGE)
        if isinstance(error, REFUSED) and not (too_large and len(lane.in_flight) > 1):
            self._outbox.refused(lane, PublishError(f"the broker refused the record: {type(error).__name__}"))
            return
        if too_large:  # one of these records: find out which
            lane.singly = len(lane.in_flight)
        self._outbox.again(lane)

    def _abandon(self) -> None:
        """No answer will come any more to what is under way."""
        for future in list(self._under_way.values()):
            future.cancel()

    async def _replace(self) -> None:
        """A new producer for the broken one; returns once it is connected. Whatever was in flight waits again."""
        await _discard(self._producer)
        self._abandon()
        await asyncio.sleep(0)  # the callbacks of what was under way put it back
        while True:
            await asyncio.sleep(random.uniform(0.5, 1.0) * min(1.0, 0.02 * 2 ** min(self._failures, 10)))
            self._failures += 1
            try:
                self._producer = await in_time(self._settings, self._connect())
            except BrokerUnavailable as error:
                log.warning("%s", error)
            else:
                break
        self._broken = False


def _position(lane: Lane, metadata: Any, entry: Entry, index: int, now: int) -> Position:
    stamp = metadata.timestamp if metadata.timestamp_type == 1 else entry.outgoing.timestamp_ms
    offset = metadata.offset + index if metadata.offset >= 0 else -1
    return Position(lane.partition, offset, now if stamp is None else stamp)


async def _discard(producer: Any) -> None:
    """End a producer at once. Not by its own `stop`, which waits for batches that may never be answered."""
    sender = producer._sender.sender_task
    if sender is not None:
        sender.cancel()
        await asyncio.wait([sender], timeout=SENDER_TIMEOUT_S)
    producer._closed = True
    await producer.client.close()
