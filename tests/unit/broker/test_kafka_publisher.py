"""What goes over the wire: one request per broker at a time, repeats are the same bytes, refusals leave no hole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from aiokafka.record.memory_records import MemoryRecords

from broker import kafka_publisher
from broker.kafka_producer import KafkaProducer
from broker.kafka_publisher import KafkaPublisher
from broker.lane import Lane
from broker.outbox import Outbox
from broker.port import Outgoing, PublishError, PublishUnknown
from schemas.settings import KafkaSettings

OUT_OF_ORDER, TOO_LARGE, NOT_LEADER, DUPLICATE = 45, 10, 6, 46
SETTINGS = KafkaSettings(kafka_bootstrap="127.0.0.1:1", kafka_publish_timeout_s=1)

Sent = list[tuple[str, int, int, int, list[bytes]]]
"""Per batch: topic, partition, producer id, first sequence number, values."""


class Broker:
    """Stands for aiokafka's client. `answer`: (number of the request, partition) → error code; `held` requests wait."""

    def __init__(self) -> None:
        self.requests: list[Sent] = []
        self.raw: list[bytes] = []
        self.answer: Callable[[int, int], int] = lambda _, __: 0
        self.held: list[asyncio.Future[None]] = []
        self.holds = False
        self.broken = 0
        self.metadata_updates = 0
        self.leaders: dict[int, int | None] = {}
        self.cluster = SimpleNamespace(leader_for_partition=lambda tp: self.leaders.get(tp.partition, 1))

    async def send(self, node: int, request: Any) -> Any:
        sent: Sent = []
        for topic, batches in request._topics:
            for partition, raw in batches:
                self.raw.append(bytes(raw))
                found = MemoryRecords(bytes(raw)).next_batch()
                values = [record.value for record in found]
                sent.append((topic, partition, found.producer_id, found.base_sequence, values))
        self.requests.append(sent)
        if self.holds:
            self.held.append(asyncio.get_running_loop().create_future())
            await self.held[-1]
        if self.broken:
            self.broken -= 1
            raise KafkaConnectionError("gone")
        count = len(self.requests)
        told = [(topic, [(part, self.answer(count, part), 100, -1, 0)]) for topic, part, *_ in sent]
        return SimpleNamespace(topics=told)

    def force_metadata_update(self) -> None:
        self.metadata_updates += 1

    async def close(self) -> None: ...


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    monkeypatch.setattr(kafka_publisher, "RETRY_BACKOFF_MS", 0)
    return Broker()


def started(broker: Broker, partitions: int = 2) -> KafkaPublisher:
    """A publisher that is connected to the stand-in, as `start` leaves it; a new producer gets the next id."""
    publisher, ids = KafkaPublisher(SETTINGS, ("t",)), iter(range(7, 100))

    async def connected() -> KafkaProducer:
        producer = KafkaProducer(SETTINGS, ("t",), 1_000)
        producer._client, producer._id, producer._epoch = broker, next(ids), 0
        return producer

    def first() -> KafkaProducer:
        making = connected()
        try:
            making.send(None)
        except StopIteration as made:
            producer: KafkaProducer = made.value
            return producer
        raise AssertionError

    publisher._connected = connected  # type: ignore[method-assign]
    publisher._producer = first()
    publisher._outbox = Outbox({"t": [Lane("t", number, 10_000) for number in range(partitions)]}, publisher._wake)
    return publisher


def record(value: bytes, partition: int = 0) -> Outgoing:
    return Outgoing("t", b"k", value, partition)


async def flushed(publisher: KafkaPublisher) -> None:
    await asyncio.wait_for(publisher.flush(), 2)


async def test_what_is_published_in_one_step_goes_out_in_one_request(broker: Broker) -> None:
    publisher = started(broker)
    for value, partition in ((b"1", 0), (b"2", 1), (b"3", 0)):
        publisher.publish(record(value, partition))
    await flushed(publisher)
    assert broker.requests == [[("t", 0, 7, 0, [b"1", b"3"]), ("t", 1, 7, 0, [b"2"])]]


async def test_while_a_request_is_under_way_what_comes_gathers_into_the_next(broker: Broker) -> None:
    publisher = started(broker)
    broker.holds = True
    publisher.publish(record(b"1"))
    while not broker.held:
        await asyncio.sleep(0)
    for value, partition in ((b"2", 0), (b"3", 1), (b"4", 0)):
        publisher.publish(record(value, partition))
        await asyncio.sleep(0)
    assert len(broker.requests) == 1
    broker.holds = False
    broker.held[0].set_result(None)
    await flushed(publisher)
    values = {(partition, sequence): found for _, partition, _, sequence, found in broker.requests[1]}
    assert values == {(0, 1): [b"2", b"4"], (1, 0): [b"3"]}


async def test_a_broker_that_is_slow_does_not_hold_up_another(broker: Broker) -> None:
    publisher = started(broker)
    broker.leaders, broker.holds = {0: 1, 1: 2}, True
    publisher.publish(record(b"1", 0))
    publisher.publish(record(b"2", 1))
    while len(broker.held) < 2:
        await asyncio.sleep(0)
    broker.held[1].set_result(None)
    broker.held[0].set_result(None)
    await flushed(publisher)
    assert len(broker.requests) == 2


@pytest.mark.parametrize("how", ["no answer", "an error that passes", "no leader"])
async def test_a_batch_without_an_ack_is_repeated_as_the_same_bytes(broker: Broker, how: str) -> None:
    publisher = started(broker)
    told: list[Exception | None] = []
    if how == "no answer":
        broker.broken = 1
    elif how == "an error that passes":
        broker.answer = lambda count, _: NOT_LEADER if count == 1 else 0
    else:
        broker.leaders = {0: None}
    publisher.publish(record(b"1"), told.append)
    await asyncio.sleep(0.01)
    broker.leaders = {}
    publisher.publish(record(b"2"), told.append)
    await flushed(publisher)
    assert [found for request in broker.requests for *_, found in request][-2:] == [[b"1"], [b"2"]]
    assert [sequence for *_, sequence, _ in (batch for request in broker.requests for batch in request)][-2:] == [0, 1]
    assert len(set(broker.raw)) == 2
    assert broker.metadata_updates >= 1
    assert told == [None, None]


async def test_a_batch_that_the_broker_knows_already_is_acknowledged(broker: Broker) -> None:
    publisher = started(broker)
    broker.answer = lambda _, __: DUPLICATE
    assert (await publisher.send(record(b"1"))).partition == 0
    await publisher.send(record(b"2"))
    assert [request[0][3] for request in broker.requests] == [0, 1]


async def test_a_refused_batch_leaves_no_hole_in_the_sequence(broker: Broker) -> None:
    publisher = started(broker)
    broker.answer = lambda count, _: TOO_LARGE if count == 2 else 0
    await publisher.send(record(b"1"))
    with pytest.raises(PublishError, match="refused"):
        await publisher.send(record(b"2"))
    await publisher.send(record(b"3"))
    assert [request[0][2:] for request in broker.requests] == [(7, 0, [b"1"]), (7, 1, [b"2"]), (7, 1, [b"3"])]


async def test_a_batch_that_is_too_large_goes_record_by_record(broker: Broker) -> None:
    publisher = started(broker)
    told: list[Exception | None] = []
    broker.answer = lambda count, _: TOO_LARGE if count in (1, 3) else 0
    for value in (b"1", b"2", b"3"):
        publisher.publish(record(value), told.append)
    await flushed(publisher)
    assert [request[0][3:] for request in broker.requests] == [
        (0, [b"1", b"2", b"3"]),
        (0, [b"1"]),
        (1, [b"2"]),
        (1, [b"3"]),
    ]
    assert [type(error) for error in told] == [type(None), PublishError, type(None)]


async def test_after_an_error_that_does_not_pass_a_new_producer_sends_everything_again_in_order(broker: Broker) -> None:
    publisher = started(broker)
    told: list[Exception | None] = []
    broker.answer = lambda count, _: OUT_OF_ORDER if count == 2 else 0
    await publisher.send(record(b"0"))
    publisher.publish(record(b"1"), told.append)
    await asyncio.sleep(0)
    publisher.publish(record(b"2"), told.append)
    await flushed(publisher)
    assert [request[0][2:] for request in broker.requests] == [(7, 0, [b"0"]), (7, 1, [b"1"]), (8, 0, [b"1", b"2"])]
    assert told == [None, None]


async def test_a_repeat_that_was_due_at_the_old_producer_is_left_to_the_new_one(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = started(broker)
    monkeypatch.setattr(kafka_publisher, "RETRY_BACKOFF_MS", 60)
    errors = {(1, 0): NOT_LEADER, (1, 1): OUT_OF_ORDER}
    broker.answer = lambda count, partition: errors.get((count, partition), 0)
    publisher.publish(record(b"1", 0))
    publisher.publish(record(b"2", 1))
    await flushed(publisher)
    await asyncio.sleep(0.08)
    sent = [batch[1:] for request in broker.requests[1:] for batch in request]
    assert sorted(sent) == [(0, 8, 0, [b"1"]), (1, 8, 0, [b"2"])]
    assert (await publisher.send(record(b"3"))).offset == 100


async def test_sequence_numbers_begin_again_after_the_last(broker: Broker) -> None:
    publisher = started(broker)
    await publisher.send(record(b"1"))
    producer = publisher._producer
    assert producer is not None
    [lane] = producer._sequences
    producer._sequences[lane] = 0x7FFF_FFFF
    await publisher.send(record(b"2"))
    await publisher.send(record(b"3"))
    assert [request[0][3] for request in broker.requests] == [0, 0x7FFF_FFFF, 0]


async def test_stop_tells_what_never_left_from_what_may_have(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_publisher, "STOP_TIMEOUT_S", 0)
    publisher = started(broker)
    broker.holds = True
    told: list[Exception | None] = []
    publisher.publish(record(b"1"), told.append)
    while not broker.held:
        await asyncio.sleep(0)
    publisher.publish(record(b"2"), told.append)
    await publisher.stop()
    assert [type(error) for error in told] == [PublishUnknown, PublishError]


async def test_a_defect_in_sending_leaves_nobody_waiting(broker: Broker) -> None:
    publisher = started(broker)
    broker.answer = lambda _, __: 1 // 0
    with pytest.raises(PublishUnknown):
        await publisher.send(record(b"1"))
