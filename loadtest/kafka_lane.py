"""Turns straight to Kafka and frames from the reply topic, as an outside producer does it. Knows the records of the
contract, nothing of who answers. The only file here besides the yardstick that imports a Kafka client."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

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
    latency; 0 where milliseconds are measured. `control`: the topic of commands, where any are sent."""

    def __init__(self, bootstrap: str, *, turns: str, replies: str, control: str = "") -> None:
        self.pause_s = 0.0
        self._bootstrap = bootstrap
        self._topics = [topic for topic in (turns, control) if topic]
        self._replies = replies
        self._heard: Heard = lambda _frame, _at_s: None
        self._feeds: list[_Feed] = []
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
        self._feeds = []
        for topic in self._topics:
            feed = _Feed(self._producer, topic, len(await self._producer.partitions_for(topic)))
            self._feeds.append(feed)
            self._tasks += feed.start()
        self._tasks.append(asyncio.create_task(self._read(), name="read replies"))

    async def stop(self) -> None:
        """Close; what is not yet sent is dropped. Raises what ended a task of the lane."""
        tasks, self._tasks = self._tasks, []
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(Exception):
            await self._producer.stop()
        await self._consumer.stop()
        for task in ended:
            task.result()

    def listen(self, heard: Heard) -> None:
        self._heard = heard

    def submit(self, request: Request, agent: str) -> None:
        self.record(
            request.session.encode(), orjson.dumps({"turn": request.turn, "agent": agent, "text": request.text})
        )

    def record(self, key: bytes, value: bytes) -> None:
        """A record on the topic of turns, whatever is in it."""
        self._feeds[0].put(key, value)

    def command(self, session: str, command: Mapping[str, Any]) -> None:
        """A record on the topic of commands."""
        self._feeds[1].put(session.encode(), orjson.dumps(command))

    async def _seek_to_end(self) -> None:
        await self._consumer._client.force_metadata_update()
        numbers: Sequence[int] = sorted(self._consumer.partitions_for_topic(self._replies) or ())
        if not numbers:
            raise RuntimeError(f"topic {self._replies} is missing; create it before the load starts")
        places = [TopicPartition(self._replies, number) for number in numbers]
        self._consumer.assign(places)
        await self._consumer.seek_to_end(*places)
        await asyncio.gather(*(self._consumer.position(place) for place in places))

    async def _read(self) -> None:
        while True:
            found = await self._consumer.getmany(timeout_ms=1000)
            at_s = time.monotonic()
            for records in found.values():
                for record in records:
                    self._heard(orjson.loads(record.value), at_s)
            if self.pause_s:
                await asyncio.sleep(self.pause_s)


class _Feed:
    """What waits for one topic, by partition; a task for each publishes what there is in one batch."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, count: int) -> None:
        self._producer = producer
        self._topic = topic
        self._waiting: list[list[tuple[bytes, bytes]]] = [[] for _ in range(count)]
        self._woken = [asyncio.Event() for _ in range(count)]
        self._partition = lru_cache(maxsize=None)(lambda key: (murmur2(key) & 0x7FFFFFFF) % count)

    def start(self) -> list[asyncio.Task[None]]:
        numbers = range(len(self._waiting))
        return [asyncio.create_task(self._publish(number), name=f"{self._topic} {number}") for number in numbers]

    def put(self, key: bytes, value: bytes) -> None:
        partition = self._partition(key)
        self._waiting[partition].append((key, value))
        self._woken[partition].set()

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
                await self._producer.send_batch(batch, self._topic, partition=partition)
                records = records[taken:]
