"""A past that nobody lived: topics and journal filled with whole turns as workers would have left them, straight and
fast. Knows the formats of contract and store, nothing of who reads them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import murmur2
from pymongo import AsyncMongoClient, WriteConcern

TURNS_OF_A_SESSION = 20
PAGE = 5_000
BATCH_BYTES = 512 * 1024
AT_MS = 1_800_000_000_000

Record = tuple[bytes, bytes]
Document = dict[str, Any]


async def fill(bootstrap: str, mongo_uri: str, *, prefix: str, database: str, turns: int) -> None:
    """`turns` echo turns, 20 a session, each a record, a CLAIM, a FINISH and a frame; all of them committed."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=0, max_batch_size=BATCH_BYTES)
    mongo: AsyncMongoClient[Document] = AsyncMongoClient(mongo_uri)
    await producer.start()
    try:
        journal = mongo[database].get_collection("journal", write_concern=WriteConcern(w=1, j=False))
        for first in range(0, turns, PAGE):
            page = list(_page(first, min(first + PAGE, turns)))
            await asyncio.gather(
                journal.insert_many([row for _, _, rows in page for row in rows], ordered=False),
                _publish(producer, f"{prefix}agent.turns", [turn for turn, _, _ in page]),
                _publish(producer, f"{prefix}agent.replies", [frame for _, frame, _ in page]),
            )
        await producer.flush()
        await _commit(bootstrap, f"{prefix}agent.turns", f"{prefix}workers")
    finally:
        await producer.stop()
        await mongo.close()


def _page(first: int, end: int) -> Iterator[tuple[Record, Record, list[Document]]]:
    """Record, frame and journal rows of each turn."""
    for number in range(first, end):
        session, place = divmod(number, TURNS_OF_A_SESSION)
        yield _turn(f"past-{session}", f"t{place}", place)


def _turn(session: str, turn: str, place: int) -> tuple[Record, Record, list[Document]]:
    said = f"this is what was said in turn {turn}"
    key, s = session.encode(), f"default/{session}"
    item: Document = {"id": f"{turn}~1", "turn": turn, "role": "assistant", "parts": [{"type": "text", "text": said}]}
    item["at_ms"] = AT_MS
    frame: Document = {"session": session, "turn": turn, "attempt": 1, "seq": 0, "at_ms": AT_MS, "tenant": "default"}
    frame |= {"type": "completed", "text": said, "messages": [item], "finish": "stop", "usage": []}
    raw = orjson.dumps(frame)
    position = ["agent.turns", 0, 1 << 40, AT_MS]
    claim: Document = {"at_ms": AT_MS, "turn": turn, "attempt": 1, "tries": 1, "worker": "past", "user": "u"}
    claim |= {"position": position, "digest": "0" * 32, "deadline_ms": AT_MS, "input": {"text": said}}
    if place == 0:
        claim["opens"] = {"at_ms": AT_MS, "user": "u", "agent": "echo", "agent_version": "1"}
    finish = {"at_ms": AT_MS, "turn": turn, "attempt": 1, "outcome": "completed", "history": [item]}
    v = 2 * place + 1
    rows = [
        {"_id": {"s": s, "v": v}, "k": "claim", "n": f"past-{v}", "t": AT_MS, "turn": turn, "body": _text(claim)},
        {"_id": {"s": s, "v": v + 1}, "k": "finish", "n": f"past-{v + 1}", "t": AT_MS, "body": _text(finish)},
    ]
    rows[1]["frames"] = [raw.decode()]
    return (key, orjson.dumps({"turn": turn, "user": "u", "agent": "echo", "text": said})), (key, raw), rows


def _text(body: Document) -> str:
    return orjson.dumps(body).decode()


async def _publish(producer: AIOKafkaProducer, topic: str, records: list[Record]) -> None:
    count = len(await producer.partitions_for(topic))
    lanes: dict[int, list[Record]] = defaultdict(list)
    for key, value in records:
        lanes[(murmur2(key) & 0x7FFFFFFF) % count].append((key, value))
    for partition, lane in lanes.items():
        while lane:
            batch, taken = producer.create_batch(), 0
            for key, value in lane:
                if batch.append(key=key, value=value, timestamp=None) is None:
                    break
                taken += 1
            await producer.send_batch(batch, topic, partition=partition)
            del lane[:taken]


async def _commit(bootstrap: str, topic: str, group: str) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        await consumer._client.force_metadata_update()
        places = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(places)
        await consumer.commit(await consumer.end_offsets(places))
    finally:
        await consumer.stop()
