"""Queues by partition: order survives failures, one bad record harms no neighbour, giving up is honest."""

from __future__ import annotations

import asyncio

import pytest

from broker.lane import Entry, Lane
from broker.outbox import Outbox
from broker.port import Outgoing, Position, PublishError, PublishUnknown


def record(value: bytes) -> Outgoing:
    return Outgoing("t", b"k", value, partition=0)


def outbox(limit_bytes: int = 1_000) -> tuple[Outbox, Lane]:
    lane = Lane("t", 0, limit_bytes)
    return Outbox({"t": [lane]}, lambda: None), lane


def where(_: Outgoing, index: int) -> Position:
    return Position(0, index, 0)


def values(entries: list[Entry]) -> list[bytes | None]:
    return [outgoing.value for outgoing, _ in entries]


async def test_a_batch_that_failed_goes_before_everything_later() -> None:
    box, lane = outbox()
    acked: list[Exception | None] = []
    for value in (b"1", b"2"):
        box.publish(record(value), acked.append)
    assert box.ready() == [lane]
    lane.take(lambda _, __: True)
    box.publish(record(b"3"), acked.append)
    box.again(lane)
    assert box.ready() == [lane]
    lane.take(lambda _, __: True)
    assert values(lane.in_flight) == [b"1", b"2", b"3"]
    assert acked == []
    box.landed(lane, where)
    assert acked == [None, None, None]


async def test_a_lane_with_a_batch_in_flight_is_not_ready() -> None:
    box, lane = outbox()
    box.publish(record(b"1"), None)
    box.ready()
    lane.take(lambda _, __: True)
    box.publish(record(b"2"), None)
    assert box.ready() == []
    box.landed(lane, where)
    assert box.ready() == [lane]


async def test_a_full_batch_leaves_the_rest_for_the_next() -> None:
    box, lane = outbox()
    for value in (b"1", b"2", b"3"):
        box.publish(record(value), None)
    box.ready()
    lane.take(lambda _, outgoing: outgoing.value != b"3")
    assert values(lane.in_flight) == [b"1", b"2"]
    box.landed(lane, where)
    assert box.ready() == [lane]


async def test_after_a_batch_was_too_large_its_records_go_one_by_one() -> None:
    box, lane = outbox()
    for value in (b"1", b"2", b"3"):
        box.publish(record(value), None)
    box.ready()
    lane.take(lambda _, __: True)
    lane.singly = 2
    box.again(lane)
    sizes = []
    while box.ready():
        lane.take(lambda _, __: True)
        sizes.append(len(lane.in_flight))
        box.landed(lane, where)
    assert sizes == [1, 1, 1]


async def test_a_record_that_cannot_be_encoded_fails_alone() -> None:
    box, lane = outbox()
    failures: dict[bytes, Exception | None] = {}
    for value in (b"1", b"bad", b"2"):
        box.publish(record(value), lambda error, value=value: failures.update({value: error}))  # type: ignore[misc]

    def append(_: int, outgoing: Outgoing) -> bool:
        if outgoing.value == b"bad":
            raise TypeError("not bytes")
        return True

    box.ready()
    box.settle(lane.take(append))
    box.landed(lane, where)
    await box.flush()
    assert failures[b"1"] is None
    assert failures[b"2"] is None
    assert isinstance(failures[b"bad"], PublishError)


async def test_a_send_that_gave_up_before_it_left_never_goes_out() -> None:
    box, lane = outbox()
    with pytest.raises(PublishError, match="never sent"):
        await box.send(record(b"gone"), timeout_s=0)
    box.publish(record(b"later"), None)
    box.ready()
    lane.take(lambda _, __: True)
    assert values(lane.in_flight) == [b"later"]
    box.landed(lane, where)
    await box.flush()


async def test_a_send_that_gave_up_after_it_left_is_unknown() -> None:
    box, lane = outbox()
    sending = asyncio.create_task(box.send(record(b"1"), timeout_s=0.001))
    await asyncio.sleep(0)
    box.ready()
    lane.take(lambda _, __: True)
    with pytest.raises(PublishUnknown):
        await sending


async def test_giving_up_tells_what_never_left_from_what_may_have() -> None:
    box, lane = outbox()
    told: list[Exception | None] = []
    box.publish(record(b"left"), told.append)
    box.ready()
    lane.take(lambda _, __: True)
    box.publish(record(b"stayed"), told.append)
    box.give_up()
    assert [type(error) for error in told] == [PublishUnknown, PublishError]
    await box.flush()


async def test_a_callback_that_raises_does_not_stop_the_others() -> None:
    box, lane = outbox()
    acked: list[Exception | None] = []

    def broken(_: Exception | None) -> None:
        raise RuntimeError("in the caller's code")

    box.publish(record(b"1"), broken)
    box.publish(record(b"2"), acked.append)
    box.ready()
    lane.take(lambda _, __: True)
    box.landed(lane, where)
    assert acked == [None]


async def test_what_is_too_large_is_refused_later_and_never_from_within_publish() -> None:
    box, _ = outbox(limit_bytes=300)
    told: list[Exception | None] = []
    box.publish(record(b"x" * 300), told.append)
    assert told == []
    await asyncio.sleep(0)
    assert [type(error) for error in told] == [PublishError]
    await box.flush()
