"""Reads a whole topic as it is now, without a group, by aiokafka. Knows nothing of what is in the records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from broker.kafka_admin import KafkaAdmin
from broker.kafka_connect import client_options, close_consumer, in_time, unavailable
from broker.kafka_pace import pace
from broker.kafka_records import lean
from broker.port import BrokerUnavailable, Extent, Record
from schemas.settings import KafkaSettings

POLL_MS = 1_000
SILENT_POLLS = 10
STOP_TIMEOUT_S = 5.0
RETRY_S = 0.2


class KafkaScan:
    """The Scan port on Apache Kafka. Used on one event loop."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    async def extent(self, topic: str, group: str | None = None) -> Extent:
        """See the port."""
        committed = await self._committed(topic, group) if group is not None else {}
        count = await self._partitions(topic)
        consumer = AIOKafkaConsumer(**client_options(self._settings, "scan"), enable_auto_commit=False)
        places = [TopicPartition(self._settings.topic_prefix + topic, partition) for partition in range(count)]
        try:
            await in_time(self._settings, consumer.start())
            firsts = await in_time(self._settings, consumer.beginning_offsets(places))
            ends = await in_time(self._settings, consumer.end_offsets(places))
        finally:
            await close_consumer(consumer, STOP_TIMEOUT_S)
        return Extent(
            {place.partition: firsts[place] for place in places},
            {place.partition: ends[place] for place in places},
            committed,
        )

    async def read(self, topic: str) -> AsyncIterator[Sequence[Record]]:
        """See the port. Close it (`aclosing`) where it is left before its end."""
        count = await self._partitions(topic)
        consumer = AIOKafkaConsumer(
            **client_options(self._settings, "scan"), enable_auto_commit=False, auto_offset_reset="earliest"
        )
        pace(consumer)
        places = [TopicPartition(self._settings.topic_prefix + topic, partition) for partition in range(count)]
        try:
            await in_time(self._settings, consumer.start())
            lean(consumer)
            consumer.assign(places)
            firsts = await in_time(self._settings, consumer.beginning_offsets(places))
            ends = await in_time(self._settings, consumer.end_offsets(places))
            for place in places:
                consumer.seek(place, firsts[place])
            async for records in self._until(consumer, {place: end for place, end in ends.items() if end}):
                yield records
        except KafkaError as error:
            raise unavailable(self._settings, error) from error
        finally:
            await close_consumer(consumer, STOP_TIMEOUT_S)

    async def _until(self, consumer: Any, ends: dict[Any, int]) -> AsyncIterator[Sequence[Record]]:
        """Batches below these ends; a partition is done when the position is there, whatever gaps its offsets have."""
        silent = 0
        while True:
            ends = {place: end for place, end in ends.items() if await consumer.position(place) < end}
            if not ends:
                return
            found = await consumer.getmany(*ends, timeout_ms=POLL_MS)
            silent = 0 if found else silent + 1
            if silent >= SILENT_POLLS:
                raise BrokerUnavailable(f"nothing came for {silent * POLL_MS / 1000:g} s: is the broker still there?")
            for place, records in found.items():
                below = [record for record in records if record.offset < ends[place]]
                if below:
                    yield below

    async def _committed(self, topic: str, group: str) -> dict[int, int]:
        prefix = self._settings.topic_prefix
        client = AIOKafkaAdminClient(**client_options(self._settings, "scan"))
        try:
            await in_time(self._settings, client.start())
            found = await in_time(self._settings, _offsets(client, prefix + group))
        finally:
            await client.close()
        ours = {place: at.offset for place, at in found.items() if place.topic == prefix + topic}
        return {place.partition: offset for place, offset in ours.items() if offset >= 0}

    async def _partitions(self, topic: str) -> int:
        """Looked up first: asking a consumer for a missing topic would create it, where the broker allows that."""
        admin = KafkaAdmin(self._settings)
        try:
            state = (await admin.describe([topic])).get(topic)
        finally:
            await admin.stop()
        if state is None:
            raise BrokerUnavailable(f"the cluster lacks {topic}: run `fleet topics apply`")
        return state.partitions


async def _offsets(client: Any, group: str) -> Any:
    """A broker that is asked for a group for the first time, or has just started, names no coordinator for a moment."""
    while True:
        try:
            return await client.list_consumer_group_offsets(group)
        except KafkaError as error:
            if not error.retriable:
                raise
            await asyncio.sleep(RETRY_S)
