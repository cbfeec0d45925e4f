"""Turns straight to Kafka and frames from the reply topic, as an outside producer does it. Knows the records of the
contract, nothing of who answers. The only file here besides the yardstick that imports a Kafka client."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from functools import lru_cache

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import murmur2

from broker.kafka_pace import pace
from loadtest.answers import Request
from loadtest.generator import Heard

BATCH_BYTES = 256 * 1024


class KafkaLane:
    """Publishes in batches by partition (linger 0: whatever is waiting goes) and reads all reply partitions, without a
    group, from their ends on. `pause_s` between two reads makes many small frames cheap to read, at its price in
    latency; 0 where milliseconds are measured."""

    def __init__(self, bootstrap: str, *, turns: str, replies: str) -> None:
        self.pause_s = 0.0
        self._bootstrap = bootstrap
        self._turns = turns
        self._replies = replies
        self._heard: Heard = lambda _frame, _at_s: None
        self._waiting: list[list[tuple[bytes, bytes]]] = []
        self._woken: list[asyncio.Event] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Connect; frames published after this returns are heard."""
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap, acks="all", max_batch_size=BATCH_BYTES, linger_ms=0
        )
        self._consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap, group_id=None)
        pace(self._consumer)
        await self._producer.start()
        await self._consumer.start()
        await self._seek_to_end()
        count = len(await self._producer.partitions_for(self._turns))
        self._waiting = [[] for _ in range(count)]
        self._woken = [asyncio.Event() for _ in range(count)]
        self._partition = lru_cache(maxsize=None)(lambda key: (murmur2(key) & 0x7FFFFFFF) % count)
        self._tasks = [asyncio.create_task(self._publish(number), name=f"publish {number}") for number in range(count)]
        self._tasks.append(asyncio.create_task(self._read(), name="read replies"))

    async def stop(self) -> None:
        """Close; what is not yet sent is dropped. Raises what ended a task of the lane."""
        ended = [task for task in self._tasks if task.done()]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(Exception):
            await self._producer.stop()
        await self._consumer.stop()
        for task in ended:
            task.result()

    def listen(self, heard: Heard) -> None:
        self._heard = heard

    def submit(self, request: Request, agent: str) -> None:
        key = request.session.encode()
        value = orjson.dumps({"turn": request.turn, "agent": agent, "text": request.text})
        partition = self._partition(key)
        self._waiting[partition].append((key, value))
        self._woken[partition].set()

    async def _seek_to_end(self) -> None:
        await self._consumer._client.force_metadata_update()
        numbers: Sequence[int] = sorted(self._consumer.partitions_for_topic(self._replies) or ())
        if not numbers:
            raise RuntimeError(f"topic {self._replies} is missing; create it before the load starts")
        places = [TopicPartition(self._replies, number) for number in numbers]
        self._consumer.assign(places)
        await self._consumer.seek_to_end(*places)
        await asyncio.gather(*(self._consumer.position(place) for place in places))

    async def _publish(self, partition: int) -> None:
        while True:
            await self._woken[partition].wait()
            self._woken[partition].clear()
            records, self._waiting[partition] = self._waiting[partition], []
            while records:
                batch, taken = self._producer.create_batch(), 0
                for key, value in records:
                    if batch.append(key=key, value=value, timestamp=None) is None:
                        break
                    taken += 1
                await self._producer.send_batch(batch, self._turns, partition=partition)
                records = records[taken:]

    async def _read(self) -> None:
        while True:
            found = await self._consumer.getmany(timeout_ms=1000)
            at_s = time.monotonic()
            for records in found.values():
                for record in records:
                    self._heard(orjson.loads(record.value), at_s)
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
