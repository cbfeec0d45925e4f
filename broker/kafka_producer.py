"""One idempotent producer id on Kafka: encodes a lane's batch, sends many lanes in one request, repeats the same bytes.

aiokafka connects, finds leaders and has the record format in C; its own producer wraps each batch in futures and tasks
and counts sequence numbers before the broker has taken them, so that a refused batch leaves a hole (aiokafka 0.14).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import DuplicateSequenceNumber, KafkaError, LeaderNotAvailableError, NoError, for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition
from aiokafka.util import INTEGER_MAX_VALUE

from broker.kafka_connect import REQUEST_TIMEOUT_MS, RETRY_BACKOFF_MS, client_options
from broker.lane import Lane
from broker.port import BrokerUnavailable, Outgoing
from schemas.settings import KafkaSettings

ALL_REPLICAS = -1
MAGIC, UNCOMPRESSED = 2, 0
SEQUENCES = 0x7FFF_FFFF
"""Sequence numbers begin at 0 again after this one."""

Batch = bytearray


class Answer(NamedTuple):
    """What the broker said of one lane's batch. `timestamp_ms` −1: the records keep the ones that they came with."""

    error: KafkaError | None
    offset: int = -1
    timestamp_ms: int = -1


class KafkaProducer:
    """From `start` to `stop`. A lane that was loaded keeps its batch until it is `landed` or `dropped`: a repeat sends
    the same bytes under the same sequence number, so that the broker knows it again."""

    def __init__(self, settings: KafkaSettings, names: Sequence[str], batch_bytes: int) -> None:
        self._names = names
        self._batch_bytes = batch_bytes
        self._client = AIOKafkaClient(**client_options(settings, "publisher"))
        self._id, self._epoch = -1, -1
        self._sequences: dict[Lane, int] = {}
        self._batches: dict[Lane, Batch] = {}

    async def start(self) -> None:
        """Connect, learn the leaders, get an id. Waits without limit for a broker that says `later`."""
        await self._client.bootstrap()
        for name in self._names:
            await self._client._wait_on_metadata(name)
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=INTEGER_MAX_VALUE)
        while self._id < 0:
            response = await self._client.send(self._client.get_random_node(), request)
            error = for_code(response.error_code)
            if error is NoError:
                self._id, self._epoch = response.producer_id, response.producer_epoch
            elif not error.retriable:
                raise BrokerUnavailable(f"the broker gives no producer id: {error.__name__}")
            else:
                await asyncio.sleep(RETRY_BACKOFF_MS / 1000)

    async def stop(self) -> None:
        """Disconnect at once; requests that are under way fail."""
        await self._client.close()

    def leader(self, lane: Lane) -> int | None:
        """The broker that takes this lane's records now; None: nobody knows."""
        node: int | None = self._client.cluster.leader_for_partition(TopicPartition(lane.topic, lane.partition))
        return None if node == -1 else node

    def load(self, lane: Lane, now_ms: int) -> int:
        """Encode what waits there into a batch, as far as it fits; how many records never can be encoded."""
        builder = DefaultRecordBatchBuilder(
            MAGIC,
            UNCOMPRESSED,
            is_transactional=0,
            producer_id=self._id,
            producer_epoch=self._epoch,
            base_sequence=self._sequences.get(lane, 0),
            batch_size=self._batch_bytes,
        )
        append = builder.append

        def add(place: int, outgoing: Outgoing) -> bool:
            stamp = outgoing.timestamp_ms
            when = now_ms if stamp is None else stamp
            return append(place, when, outgoing.key, outgoing.value, list(outgoing.headers)) is not None

        refused = lane.take(add)
        if lane.in_flight:
            self._batches[lane] = builder.build()
        return refused

    async def send(self, node: int | None, lanes: Sequence[Lane]) -> dict[Lane, Answer]:
        """Send these lanes' batches to their leader in one request; what became of each."""
        try:
            if node is None:
                raise LeaderNotAvailableError
            told = await self._request(node, lanes)
        except KafkaError as error:
            self._doubt(error)
            return dict.fromkeys(lanes, Answer(error))
        return {lane: self._answer(told.get((lane.topic, lane.partition))) for lane in lanes}

    def landed(self, lane: Lane) -> None:
        """The broker has the lane's batch: the next one has the numbers that follow."""
        self._sequences[lane] = (self._sequences.get(lane, 0) + len(lane.in_flight)) & SEQUENCES
        del self._batches[lane]

    def dropped(self, lane: Lane) -> None:
        """The broker refused the lane's batch before it counted it: the next one takes its numbers."""
        del self._batches[lane]

    async def _request(self, node: int, lanes: Sequence[Lane]) -> dict[tuple[str, int], Any]:
        topics: dict[str, list[tuple[int, Batch]]] = defaultdict(list)
        for lane in lanes:
            topics[lane.topic].append((lane.partition, self._batches[lane]))
        request = ProduceRequest(None, ALL_REPLICAS, REQUEST_TIMEOUT_MS, list(topics.items()))
        response = await self._client.send(node, request)
        return {(topic, answer[0]): answer for topic, answers in response.topics for answer in answers}

    def _answer(self, told: Any) -> Answer:
        error = for_code(told[1]) if told is not None else LeaderNotAvailableError
        if error is NoError or error is DuplicateSequenceNumber:
            return Answer(None, told[2], told[3])
        self._doubt(error)
        return Answer(error())

    def _doubt(self, error: Any) -> None:
        """After some errors it may be another broker that leads now."""
        if error.invalid_metadata:
            self._client.force_metadata_update()
