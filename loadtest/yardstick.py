"""The yardstick: a bare loop of consume, one bulk insert, produce, commit, each awaited before the next. No sessions,
no checks, no features: what durable echoing costs here at least. Shares nothing with what it measures but the pace of
fetches on the embedded broker."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.partitioner import murmur2
from pymongo import AsyncMongoClient

from broker.kafka_pace import pace
from loadtest.waiting import until

TURN_PARTITIONS = 12
REPLY_PARTITIONS = 4
BULK = 1000


async def create_topics(bootstrap: str, prefix: str) -> tuple[str, str]:
    """Make the yardstick's own two topics, with as many partitions as the product's; their names: turns, replies."""
    names = f"{prefix}yard.turns", f"{prefix}yard.replies"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        counts = (TURN_PARTITIONS, REPLY_PARTITIONS)
        await admin.create_topics([NewTopic(name, count, 1) for name, count in zip(names, counts, strict=True)])
    finally:
        await admin.close()
    return names


async def run(bootstrap: str, mongo_uri: str, *, prefix: str, database: str, ready: Callable[[], None]) -> None:
    """Loop until cancelled. `ready` is called when partitions are assigned and the database has answered."""
    turns, replies = f"{prefix}yard.turns", f"{prefix}yard.replies"
    consumer = AIOKafkaConsumer(
        turns,
        bootstrap_servers=bootstrap,
        group_id=f"{prefix}yard",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    pace(consumer)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=0, max_batch_size=1 << 20)
    mongo: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongo_uri)
    try:
        await producer.start()
        await consumer.start()
        await mongo[database].command("ping")
        await until(lambda: bool(consumer.assignment()), timeout_s=20)
        ready()
        while True:
            await _round(consumer, producer, mongo[database], replies=replies)
    finally:
        await consumer.stop()
        await producer.stop()
        await mongo.close()


async def _round(consumer: Any, producer: Any, database: Any, *, replies: str) -> None:
    found = await consumer.getmany(timeout_ms=1000, max_records=BULK)
    if not found:
        return
    rows, frames, offsets = [], defaultdict(list), {}
    now_ms = int(time.time() * 1000)
    for place, records in found.items():
        for record in records:
            turn, session = orjson.loads(record.value), record.key.decode()
            row = {"_id": f"{session}/{turn['turn']}", "text": turn["text"], "at": now_ms, "offset": record.offset}
            rows.append(row)
            frames[_partition(record.key)].append((record.key, _frame(session, turn, now_ms)))
        offsets[TopicPartition(place.topic, place.partition)] = records[-1].offset + 1
    concern = {"w": "majority", "j": True}
    await database.command({"insert": "yard", "documents": rows, "ordered": False, "writeConcern": concern})
    acks = [await _publish(producer, replies, partition, group) for partition, group in frames.items()]
    await asyncio.gather(*acks)
    await consumer.commit(offsets)


async def _publish(producer: Any, topic: str, partition: int, group: list[tuple[bytes, bytes]]) -> Any:
    batch = producer.create_batch()
    for key, value in group:
        if batch.append(key=key, value=value, timestamp=None) is None:
            raise RuntimeError(f"a bulk of {BULK} does not fit into one batch of {topic}")
    return await producer.send_batch(batch, topic, partition=partition)


@lru_cache(maxsize=100_000)
def _partition(key: bytes) -> int:
    return int(murmur2(key) & 0x7FFFFFFF) % REPLY_PARTITIONS


def _frame(session: str, turn: dict[str, Any], now_ms: int) -> bytes:
    frame = {
        "type": "completed",
        "session": session,
        "turn": turn["turn"],
        "attempt": 1,
        "seq": 1,
        "at_ms": now_ms,
        "text": turn["text"],
    }
    return orjson.dumps(frame)
