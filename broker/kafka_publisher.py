"""Publishes to Kafka: one idempotent producer, acks=all, linger 0, whole batches. Knows nothing of records.

One batch per partition is under way at a time and one request per broker; what comes meanwhile is the next one, so that
nothing is reordered and batches grow with the load. A batch without an answer is sent again as it was, under the same
sequence number. When the broker no longer follows our numbers, the producer is replaced by one with a new id, and every
batch without an ack is sent again, in order.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import time
from collections import defaultdict
from collections.abc import Sequence

from aiokafka.errors import (
    InvalidTimestampError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnsupportedForMessageFormatError,
)

from broker.kafka_admin import KafkaAdmin
from broker.kafka_connect import RETRY_BACKOFF_MS, in_time
from broker.kafka_producer import Answer, KafkaProducer
from broker.lane import Lane
from broker.outbox import Outbox
from broker.port import Acked, BrokerUnavailable, Outgoing, Position, PublishError
from schemas.settings import KafkaSettings

log = logging.getLogger(__name__)

BATCH_BYTES = 262_144
DEFAULT_LIMIT_BYTES = 1_048_576
STOP_TIMEOUT_S = 5.0
ANSWERS_S = 1.0
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
        self._outbox = Outbox({}, self._wake)
        self._batch_bytes = BATCH_BYTES
        self._failures = 0
        self._stopped = False
        self._producer: KafkaProducer | None = None
        self._draining: asyncio.Handle | None = None
        self._context = contextvars.copy_context()  # whoever publishes is no part of what sends
        self._busy: set[int | None] = set()
        self._repeating: list[Lane] = []
        self._requests: set[asyncio.Task[None]] = set()
        self._replacing: asyncio.Task[None] | None = None

    def partition_count(self, topic: str) -> int:
        """How many partitions the topic has on the cluster (read at start). KeyError: not among this publisher's."""
        return self._outbox.partition_count(topic)

    async def start(self) -> None:
        """Read how the topics are cut, then connect. Raises BrokerUnavailable, also for a topic that does not exist."""
        lanes = await self._lanes()
        smallest = min((lane.limit_bytes for some in lanes.values() for lane in some), default=BATCH_BYTES)
        self._batch_bytes = min(BATCH_BYTES, smallest)
        self._producer = await self._connected()
        self._outbox = Outbox(lanes, self._wake)

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
        flushed = asyncio.ensure_future(self.flush())
        await asyncio.wait([flushed], timeout=STOP_TIMEOUT_S)
        flushed.cancel()
        if self._replacing is not None:
            self._replacing.cancel()
            await asyncio.wait([self._replacing])
        producer, self._producer = self._producer, None
        await self._abandon(producer)
        self._outbox.give_up()
        if self._draining is not None:
            self._draining.cancel()

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

    async def _connected(self) -> KafkaProducer:
        names = [self._settings.topic_prefix + topic for topic in self._topics]
        producer = KafkaProducer(self._settings, names, self._batch_bytes)
        try:
            await in_time(self._settings, producer.start())
        except BaseException:
            await producer.stop()
            raise
        return producer

    def _wake(self) -> None:
        """Drain in the next step, when whatever is published in this one is here."""
        if self._draining is None:
            self._draining = asyncio.get_running_loop().call_soon(self._drain, context=self._context)

    def _drain(self) -> None:
        """A defect here must not leave callers waiting for ever."""
        self._draining = None
        producer = self._producer
        if producer is None:  # being replaced: the next one wakes us
            return
        try:
            now_ms = int(time.time() * 1000)
            for node, lanes in self._loads(producer, now_ms).items():
                self._busy.add(node)
                request = asyncio.create_task(self._request(producer, node, lanes, now_ms), name="publish")
                self._requests.add(request)
                request.add_done_callback(self._requested)
        except Exception:
            log.critical("the publisher ended", exc_info=True)
            self._outbox.give_up()

    def _loads(self, producer: KafkaProducer, now_ms: int) -> dict[int | None, list[Lane]]:
        """All that waits for a broker that has no request under way, as batches, by broker."""
        loads: dict[int | None, list[Lane]] = defaultdict(list)
        repeating, self._repeating = self._repeating, []
        for lane in repeating:
            node = producer.leader(lane)
            (self._repeating if node in self._busy else loads[node]).append(lane)
        for lane in self._outbox.ready(lambda lane: producer.leader(lane) not in self._busy):
            self._outbox.settle(producer.load(lane, now_ms))
            if lane.in_flight:
                loads[producer.leader(lane)].append(lane)
        return loads

    async def _request(self, producer: KafkaProducer, node: int | None, lanes: Sequence[Lane], now_ms: int) -> None:
        """One request from start to end; acknowledgements are told from here."""
        try:
            answers = await producer.send(node, lanes)
        finally:
            self._busy.discard(node)
        again = []
        for lane, answer in answers.items():
            if answer.error is None:
                self._landed(producer, lane, answer, now_ms)
            elif answer.error.retriable:
                again.append(lane)
            else:
                self._failed(producer, lane, answer.error)
        if again:
            log.warning("publishing to %s gets no answer, repeating: %r", _listed(again), answers[again[0]].error)
            asyncio.get_running_loop().call_later(RETRY_BACKOFF_MS / 1000, self._again, producer, again)
        self._wake()

    def _requested(self, request: asyncio.Task[None]) -> None:
        """A defect here must not leave callers waiting for ever."""
        self._requests.discard(request)
        if not request.cancelled() and request.exception() is not None:
            log.critical("the publisher ended", exc_info=request.exception())
            self._outbox.give_up()

    def _again(self, producer: KafkaProducer, lanes: Sequence[Lane]) -> None:
        """Their batches go out once more, as they were; unless another producer has taken them over."""
        if producer is self._producer:
            self._repeating.extend(lanes)
            self._wake()

    def _landed(self, producer: KafkaProducer, lane: Lane, answer: Answer, now_ms: int) -> None:
        self._failures = 0
        producer.landed(lane)
        self._outbox.landed(lane, lambda outgoing, place: _position(lane, answer, outgoing, place, now_ms))

    def _failed(self, producer: KafkaProducer, lane: Lane, error: KafkaError) -> None:
        """Refused for good: tell it. Anything else: the batch waits again at the front, for another producer."""
        log.warning("publishing to %s/%d failed: %r", lane.topic, lane.partition, error)
        if not isinstance(error, REFUSED):
            self._replace(producer)
            return
        producer.dropped(lane)
        if isinstance(error, TOO_LARGE) and len(lane.in_flight) > 1:  # one of these records: find out which
            lane.singly = len(lane.in_flight)
            self._outbox.again(lane)
        else:
            self._outbox.refused(lane, PublishError(f"the broker refused the record: {type(error).__name__}"))

    def _replace(self, producer: KafkaProducer) -> None:
        """From now on nothing goes to this producer."""
        if producer is self._producer:
            self._producer = None
            self._replacing = asyncio.create_task(self._replaced(producer), name="new producer")

    async def _replaced(self, producer: KafkaProducer) -> None:
        """A new producer; returns once it is connected. Whatever was in flight waits again."""
        if self._requests:  # what is answered now need not be sent again
            await asyncio.wait(self._requests, timeout=ANSWERS_S)
        await self._abandon(producer)
        self._outbox.all_again()
        while self._producer is None:
            await asyncio.sleep(random.uniform(0.5, 1.0) * min(1.0, 0.02 * 2 ** min(self._failures, 10)))
            self._failures += 1
            try:
                self._producer = await self._connected()
            except BrokerUnavailable as error:
                log.warning("%s", error)
        self._wake()

    async def _abandon(self, producer: KafkaProducer | None) -> None:
        """No answer will come any more to what is under way."""
        requests, self._repeating = list(self._requests), []
        for request in requests:
            request.cancel()
        if requests:
            await asyncio.wait(requests)
        if producer is not None:
            await asyncio.shield(producer.stop())


def _position(lane: Lane, answer: Answer, outgoing: Outgoing, place: int, now_ms: int) -> Position:
    stamp = answer.timestamp_ms if answer.timestamp_ms != -1 else outgoing.timestamp_ms
    offset = answer.offset + place if answer.offset >= 0 else -1
    return Position(lane.partition, offset, now_ms if stamp is None else stamp)


def _listed(lanes: Sequence[Lane]) -> str:
    return ", ".join(f"{lane.topic}/{lane.partition}" for lane in lanes)
