"""Reads one assigned partition from its end, without a group, by aiokafka. Knows nothing of what is in the records."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError, OffsetOutOfRangeError

from broker.kafka_admin import KafkaAdmin
from broker.kafka_connect import client_options, close_consumer, in_time
from broker.kafka_fetch import read_fast
from broker.kafka_pace import pace
from broker.kafka_records import lean
from broker.port import BrokerUnavailable, Record
from schemas.settings import KafkaSettings

log = logging.getLogger(__name__)

POLL_MS = 1_000
POLL_RECORDS = 500
RETRY_S = 0.2
STOP_TIMEOUT_S = 5.0


class KafkaTail:
    """The Tail port on Apache Kafka. Used on one event loop."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._consumer: Any = None
        self._partition: Any = None

    async def start(self, topic: str, partition: int) -> None:
        """Assign and find the end: what is published after this returns is seen. Raises BrokerUnavailable."""
        await self._check(topic, partition)
        consumer = AIOKafkaConsumer(
            **client_options(self._settings, "tail"),
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_poll_records=POLL_RECORDS,
        )
        pace(consumer)
        read_fast(consumer)
        tail = TopicPartition(self._settings.topic_prefix + topic, partition)
        try:
            await in_time(self._settings, consumer.start())
            lean(consumer)
            consumer.assign([tail])
            ends = await in_time(self._settings, consumer.end_offsets([tail]))
        except BaseException:
            await close_consumer(consumer, STOP_TIMEOUT_S)
            raise
        consumer.seek(tail, ends[tail])
        self._consumer, self._partition = consumer, tail

    async def batch(self) -> Sequence[Record]:
        """The next records, at least one. Waits without limit; BrokerUnavailable only when it is stopped."""
        while self._consumer is not None:
            try:
                found = await self._consumer.getmany(timeout_ms=POLL_MS)
            except ConsumerStoppedError:
                break
            except OffsetOutOfRangeError:
                await self._step_back()
            except KafkaError as error:
                log.warning("reading %s failed, repeating: %r", self._partition, error)
                await asyncio.sleep(RETRY_S)
            else:
                if found:
                    records: Sequence[Record] = found[self._partition]
                    return records
        raise BrokerUnavailable("the tail is stopped")

    async def stop(self) -> None:
        """Disconnect. Safe to call twice."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close_consumer(consumer, STOP_TIMEOUT_S)

    async def _check(self, topic: str, partition: int) -> None:
        """aiokafka would create a missing topic by asking for it, where the broker allows that; so look first."""
        admin = KafkaAdmin(self._settings)
        try:
            state = (await admin.describe([topic])).get(topic)
        finally:
            await admin.stop()
        if state is None or partition >= state.partitions:
            raise BrokerUnavailable(f"the cluster lacks {topic}, partition {partition}: run `fleet topics apply`")

    async def _step_back(self) -> None:
        """The log was cut behind or before us (retention, a broker that lost its last writes): go to the near end."""
        consumer, tail = self._consumer, self._partition
        try:
            position = await consumer.position(tail)
            first = (await consumer.beginning_offsets([tail]))[tail]
            end = (await consumer.end_offsets([tail]))[tail]
        except KafkaError as error:
            log.warning("reading %s failed, repeating: %r", tail, error)
            await asyncio.sleep(RETRY_S)
            return
        consumer.seek(tail, max(first, min(position, end)))
        log.warning("%s lies between %d and %d now, was read up to %d", tail, first, end, position)
