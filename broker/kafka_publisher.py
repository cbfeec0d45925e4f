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
from broker.outbox import Entry, Lane
from broker.partition import partition_of
from broker.port import Acked, BrokerUnavailable, Outgoing, Position, PublishError, PublishUnknown
from schemas.settings import KafkaSettings

log = logging.getLogger(__name__)

BATCH_BYTES = 262_144
DEFAULT_LIMIT_BYTES = 1_048_576
STOP_TIMEOUT_S = 5.0
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
        self._lanes: dict[str, list[Lane]] = {}
        self._ready: list[Lane] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._open = 0
        self._broken = False
        self._failures = 0
        self._closed = False
        self._producer: Any = None
        self._drainer: asyncio.Task[None] | None = None

    def partition_count(self, topic: str) -> int:
        """How many partitions the topic has on the cluster (read at start). KeyError: not among this publisher's."""
        return len(self._lanes[topic])

    async def start(self) -> None:
        """Read the topics' sizes, then connect. Raises BrokerUnavailable, also for a topic that does not exist."""
        self._lanes = await self._describe()
        self._producer = await in_time(self._settings, self._connect())
        self._drainer = asyncio.create_task(self._drain(), name="publisher")

    def publish(self, outgoing: Outgoing, acked: Acked | None = None) -> None:
        """Hand over and return at once; see the port."""
        self._add(Entry(outgoing, acked, None))

    async def send(self, outgoing: Outgoing) -> Position:
        """Publish one and wait for the ack. PublishError: certainly not in the log. PublishUnknown: nobody knows.

        A position with offset −1 is in the log, but the broker no longer tells where.
        """
        entry = Entry(outgoing, None, asyncio.get_running_loop().create_future())
        assert entry.waiter is not None
        self._add(entry)
        timeout_s = self._settings.kafka_publish_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await entry.waiter
        except TimeoutError:
            entry.gone = True
            if entry.handed:
                raise PublishUnknown(f"no answer from the broker within {timeout_s:g} s") from None
            raise PublishError(f"the broker could not be reached for {timeout_s:g} s; never sent") from None

    async def flush(self) -> None:
        """Wait until everything handed over is acknowledged."""
        await self._idle.wait()

    async def stop(self) -> None:
        """Flush for at most 5 s, then close; what is left gets `acked(error)`. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._drainer is not None:
            await asyncio.wait([flushed := asyncio.ensure_future(self.flush())], timeout=STOP_TIMEOUT_S)
            flushed.cancel()
            self._drainer.cancel()
            await asyncio.wait([self._drainer])
        if self._producer is not None:
            await _discard(self._producer)
        for lane in (lane for lanes in self._lanes.values() for lane in lanes):
            self._give_up(lane)

    async def _describe(self) -> dict[str, list[Lane]]:
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
        smallest = min((lane.limit_bytes for lanes in self._lanes.values() for lane in lanes), default=BATCH_BYTES)
        producer = AIOKafkaProducer(
            **client_options(self._settings, "publisher"),
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=min(BATCH_BYTES, smallest),
        )
        try:
            await producer.start()
            for lanes in self._lanes.values():
                await producer.partitions_for(lanes[0].topic)
        except BaseException:
            await _discard(producer)
            raise
        return producer

    def _add(self, entry: Entry) -> None:
        outgoing = entry.outgoing
        lanes = self._lanes[outgoing.topic]
        partition = outgoing.partition
        if partition is None:
            partition = partition_of(outgoing.key or b"", len(lanes))
        if self._closed or not 0 <= partition < len(lanes) or not lanes[partition].fits(outgoing):
            self._refuse(entry, partition)
            return
        if self._open == 0:
            self._idle.clear()
        self._open += 1
        lane = lanes[partition]
        lane.waiting.append(entry)
        if not lane.in_flight and not lane.scheduled:
            self._schedule(lane)

    def _refuse(self, entry: Entry, partition: int) -> None:
        lanes = self._lanes[entry.outgoing.topic]
        if self._closed:
            why = "the publisher is closed"
        elif not 0 <= partition < len(lanes):
            why = f"{entry.outgoing.topic} has no partition {partition}"
        else:
            why = (
                f"the record is larger than the {lanes[partition].limit_bytes} bytes that {entry.outgoing.topic} takes"
            )
        asyncio.get_running_loop().call_soon(entry.failed, PublishError(why))

    def _schedule(self, lane: Lane) -> None:
        lane.scheduled = True
        self._ready.append(lane)
        self._wake.set()

    async def _drain(self) -> None:
        """Hand over whatever waits, lane by lane; acks come beside it, in `_acked`."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._broken:
                await self._replace()
            lanes, self._ready = self._ready, []
            for lane in lanes:
                lane.scheduled = False
                if not lane.in_flight:
                    await self._hand_over(lane)

    async def _hand_over(self, lane: Lane) -> None:
        self._settle(lane.drop_gone())
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

        self._settle(lane.take(append))
        if not lane.in_flight:
            return
        batch.close()
        try:
            future = await self._producer.send_batch(batch, lane.topic, partition=lane.partition)
        except Exception as error:  # noqa: BLE001  (whatever kept aiokafka from taking it: it is sent again)
            self._failed(lane, error)
            return
        future.add_done_callback(partial(self._acked, lane, now))

    def _acked(self, lane: Lane, now: int, future: asyncio.Future[Any]) -> None:
        error = ProducerClosed() if future.cancelled() else future.exception()
        if error is not None:
            self._failed(lane, error)
            return
        self._failures = 0
        metadata = future.result()
        entries = lane.done()
        for index, entry in enumerate(entries):
            entry.landed(None if entry.waiter is None else _position(lane, metadata, entry, index, now))
        self._settle(len(entries))
        if lane.waiting and not lane.scheduled:
            self._schedule(lane)

    def _failed(self, lane: Lane, error: BaseException) -> None:
        """Refused for good: tell it. Anything else: the batch waits again at the front, for another producer."""
        if not self._closed:
            self._broken = True
        if isinstance(error, REFUSED) and (len(lane.in_flight) == 1 or not isinstance(error, TOO_LARGE)):
            entries = lane.done()
            for entry in entries:
                entry.failed(PublishError(f"the broker refused the record: {type(error).__name__}"))
            self._settle(len(entries))
        else:
            lane.singly = len(lane.in_flight) if isinstance(error, TOO_LARGE) else lane.singly
            lane.back()
        log.warning("publishing to %s/%d failed, repeating: %s", lane.topic, lane.partition, repr(error))
        if not lane.scheduled:
            self._schedule(lane)

    async def _replace(self) -> None:
        """A new producer for the broken one; returns once it is connected. Whatever was in flight waits again."""
        await _discard(self._producer)
        await asyncio.sleep(0)
        while True:
            self._failures += 1
            await asyncio.sleep(random.uniform(0.5, 1.0) * min(1.0, 0.02 * 2 ** min(self._failures, 10)))
            try:
                self._producer = await in_time(self._settings, self._connect())
            except BrokerUnavailable as error:
                log.warning("%s", error)
            else:
                break
        self._broken = False

    def _settle(self, count: int) -> None:
        self._open -= count
        if self._open == 0:
            self._idle.set()

    def _give_up(self, lane: Lane) -> None:
        lane.back()
        entries = [*lane.waiting]
        lane.waiting.clear()
        for entry in entries:
            handed = "no answer from the broker before the publisher closed"
            entry.failed(PublishUnknown(handed) if entry.handed else PublishError("the publisher closed; never sent"))
        self._settle(len(entries))


def _position(lane: Lane, metadata: Any, entry: Entry, index: int, now: int) -> Position:
    stamp = metadata.timestamp if metadata.timestamp_type == 1 else entry.outgoing.timestamp_ms
    offset = metadata.offset + index if metadata.offset >= 0 else -1
    return Position(lane.partition, offset, now if stamp is None else stamp)


async def _discard(producer: Any) -> None:
    """Close a producer at once: cut its sender, fail what it still holds (the callbacks put it back), disconnect."""
    sender = producer._sender.sender_task
    if sender is not None:
        sender.cancel()
        await asyncio.wait([sender], timeout=1.0)
    producer._message_accumulator.fail_all(ProducerClosed())
    try:
        await asyncio.wait_for(producer.stop(), 3.0)
    except Exception as error:  # noqa: BLE001  (it is thrown away; what it says only matters to a reader of the log)
        log.debug("closing a producer: %r", error)
