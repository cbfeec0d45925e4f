"""The dead letters of a run, as an operator's tool would read them. Knows the headers, not why they are there."""

from __future__ import annotations

from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition


class Letter(NamedTuple):
    """`value`: the original bytes; `attempts`: how often it was tried; `copies`: letters about the same record."""

    value: bytes
    code: str
    attempts: int
    copies: int


async def read(bootstrap: str, topic: str) -> list[Letter]:
    """All of the topic as it is now, one for each original record."""
    found: dict[tuple[str, str, str], Letter] = {}
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)
    await consumer.start()
    try:
        await consumer._client.force_metadata_update()
        places = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    _take(record.value or b"", {name: raw.decode() for name, raw in record.headers}, found)
    finally:
        await consumer.stop()
    return list(found.values())


def _take(value: bytes, headers: dict[str, str], found: dict[tuple[str, str, str], Letter]) -> None:
    place = headers["dl_topic"], headers["dl_partition"], headers["dl_offset"]
    copies = found[place].copies if place in found else 0
    found[place] = Letter(value, headers["dl_code"], int(headers.get("dl_attempts") or 0), copies + 1)
