"""A member at the edges of its assignments: where reading begins, and a rebalance that meets its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from aiokafka import TopicPartition

from broker import kafka_member
from broker.handover import Handover
from broker.kafka_member import KafkaMember
from broker.kafka_records import KafkaRecord
from broker.port import Assignment, Record
from schemas.settings import KafkaSettings


class Consumer:
    """What a member asks of aiokafka's consumer while it stops."""

    def __init__(self) -> None:
        self.commits = 0

    def assignment(self) -> set[Any]:
        self.commits += 1
        return set()


async def test_a_rebalance_while_it_stops_commits_what_is_left_and_begins_nothing() -> None:
    member = KafkaMember(KafkaSettings(kafka_bootstrap="nowhere:1"), "g", {"turns": "turns"}, _handover())
    consumer = Consumer()
    member._consumer = consumer
    member.hints.begin(1)
    member._generation = 1
    member.hints.add(1, {("turns", 0): 3})
    closing, closed = asyncio.Event(), asyncio.Event()

    async def close(_: Any, _timeout_s: float) -> None:
        closing.set()
        await closed.wait()

    with patch.object(kafka_member, "close_consumer", close):
        stopping = asyncio.create_task(member.stop())
        await closing.wait()
        await member.on_partitions_revoked([])
        member.on_partitions_assigned([])
        await member.stop()
        closed.set()
        await stopping

    assert consumer.commits >= 1
    assert member._announcer is None


def _handover() -> Handover:
    return Handover.__new__(Handover)


class Reading:
    """Two partitions whose group has committed 5; where reading begins is told late, and meanwhile both are read."""

    def __init__(self) -> None:
        self.places = {TopicPartition("turns", part): 5 for part in (0, 1)}
        self.told = asyncio.Event()
        self._coordinator = SimpleNamespace(generation=1, member_id="m")

    def assignment(self) -> set[Any]:
        return set(self.places)

    def paused(self) -> set[Any]:
        return set()

    def pause(self, *_: Any) -> None:
        pass

    resume = pause

    async def position(self, partition: Any) -> int:
        await self.told.wait()
        return self.places[partition]

    async def end_offsets(self, partitions: Sequence[Any]) -> dict[Any, int]:
        return dict.fromkeys(partitions, 1_000)

    def read(self, count: int) -> dict[Any, list[KafkaRecord]]:
        found = {}
        for partition, at in self.places.items():
            numbers = range(at, at + count)
            found[partition] = [KafkaRecord("turns", partition.partition, n, 0, b"s", b"", ()) for n in numbers]
            self.places[partition] = at + count
        return found


class Heard:
    def __init__(self) -> None:
        self.assignments: list[Assignment] = []
        self.records: list[Record] = []

    def assigned(self, assignment: Assignment) -> None:
        self.assignments.append(assignment)

    def received(self, _: int, records: Sequence[Record]) -> None:
        self.records.extend(records)

    def failed(self, error: BaseException) -> None:
        raise error


async def test_what_is_read_before_every_partition_has_told_its_place_belongs_to_the_assignment() -> None:
    """A position that is told after the first records were read lies behind them: they would count as seen."""
    heard, consumer = Heard(), Reading()
    handover = Handover(asyncio.get_running_loop(), heard)
    member = KafkaMember(KafkaSettings(kafka_bootstrap="nowhere:1"), "g", {"turns": "turns"}, handover)
    member._consumer = consumer
    member.on_partitions_assigned([])
    await asyncio.sleep(0)
    member._deliver(consumer.read(2))
    member._deliver(consumer.read(1))
    consumer.told.set()
    assert member._announcer is not None
    await member._announcer
    await asyncio.sleep(0)

    assert heard.assignments[0].offsets == {("turns", 0): 5, ("turns", 1): 5}
    assert sorted((record.partition, record.offset) for record in heard.records) == [
        (part, offset) for part in (0, 1) for offset in (5, 6, 7)
    ]


class Fetched(Reading):
    """Tells which partitions it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[set[Any]] = []

    async def getmany(self, *places: Any, timeout_ms: int) -> dict[Any, list[KafkaRecord]]:
        assert timeout_ms < 1_000
        self.asked.append(set(places))
        return {}


async def test_a_partition_of_which_the_owner_has_enough_is_not_read_and_the_others_are() -> None:
    """Ten thousand records of one session on their way are no reason to leave the others' where they are."""
    consumer, handover = Fetched(), Handover(asyncio.get_running_loop(), Heard(), each=3)
    member = KafkaMember(KafkaSettings(kafka_bootstrap="nowhere:1"), "g", {"turns": "turns"}, handover)
    member._consumer = consumer
    hog, other = consumer.places
    read = consumer.read(3)
    handover.give(1, {hog: read[hog], other: read[other][:2]})
    await member._read()
    handover.give(1, {other: read[other][2:]})
    await member._read()
    assert consumer.asked == [{other}], "to aiokafka, none is all"
    await asyncio.sleep(0)
    await member._read()
    assert consumer.asked == [{other}, set()]
