"""What only the in-memory twin can do: lost answers, a cluster that is down, members that fall silent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from broker.memory import MemoryCluster, MemoryGroupConsumer, MemoryPublisher, MemoryTail, Verdict
from broker.memory_group import group_of
from broker.port import (
    Assignment,
    BrokerUnavailable,
    Outgoing,
    PublishError,
    PublishUnknown,
    Record,
    TopicState,
)


class Notes:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.assignment = Assignment(0, frozenset())
        self.values: list[bytes | None] = []

    def assigned(self, assignment: Assignment) -> None:
        self.assignment = assignment

    def received(self, generation: int, records: Sequence[Record]) -> None:
        assert generation == self.assignment.generation
        self.values.extend(record.value for record in records)

    def failed(self, error: BaseException) -> None:
        raise AssertionError(error)


@pytest.fixture
def cluster() -> MemoryCluster:
    made = MemoryCluster(clock_ms=lambda: 42)
    made.make(TopicState("t", 2, 1, {}))
    return made


def record(value: bytes) -> Outgoing:
    return Outgoing("t", b"k", value, partition=0)


async def publisher(cluster: MemoryCluster, timeout_s: float = 0.01) -> MemoryPublisher:
    made = MemoryPublisher(cluster, ("t",), timeout_s=timeout_s)
    await made.start()
    return made


async def settle() -> None:
    """Let everything run that is due now."""
    for _ in range(10):
        await asyncio.sleep(0)


def stored(cluster: MemoryCluster) -> list[bytes | None]:
    return [one.value for one in cluster.log("t", 0).read(0, 99)]


async def test_an_answer_that_is_lost_makes_the_record_come_twice_and_keeps_the_order(cluster: MemoryCluster) -> None:
    verdicts = iter([Verdict.TAKE, Verdict.TAKE_SILENTLY])
    cluster.judge = lambda _: next(verdicts, Verdict.TAKE)
    out = await publisher(cluster)
    acked: list[Exception | None] = []
    for value in (b"1", b"2", b"3"):
        out.publish(record(value), acked.append)
    await out.stop()
    assert stored(cluster) == [b"1", b"2", b"2", b"3"]
    assert acked == [None, None, None]


async def test_a_lost_record_is_sent_again_and_an_impatient_send_is_unknown(cluster: MemoryCluster) -> None:
    cluster.judge = lambda _: Verdict.DROP
    out = await publisher(cluster)
    with pytest.raises(PublishUnknown):
        await out.send(record(b"1"))
    assert stored(cluster) == []


async def test_a_refused_record_fails_alone(cluster: MemoryCluster) -> None:
    cluster.judge = lambda outgoing: Verdict.REFUSE if outgoing.value == b"2" else Verdict.TAKE
    out = await publisher(cluster)
    told: list[Exception | None] = []
    for value in (b"1", b"2", b"3"):
        out.publish(record(value), told.append)
    await out.stop()
    assert stored(cluster) == [b"1", b"3"]
    assert sorted(type(error).__name__ for error in told) == ["NoneType", "NoneType", "PublishError"]


async def test_a_cluster_that_is_down_starts_nothing_and_gives_up_nothing(cluster: MemoryCluster) -> None:
    out, tail = await publisher(cluster), MemoryTail(cluster)
    await tail.start("t", 0)
    cluster.fail()
    with pytest.raises(BrokerUnavailable):
        await publisher(cluster)
    acked: list[Exception | None] = []
    out.publish(record(b"1"), acked.append)
    await settle()
    assert acked == []
    cluster.recover()
    await out.stop()
    assert acked == [None]
    assert [one.value for one in await tail.batch()] == [b"1"]


async def test_records_carry_the_clock_that_was_passed_in(cluster: MemoryCluster) -> None:
    out = await publisher(cluster)
    assert (await out.send(record(b"1"))).timestamp_ms == 42
    await out.stop()
    with pytest.raises(PublishError, match="closed"):
        await out.send(record(b"2"))


async def test_a_silent_member_hears_nothing_and_its_commits_do_not_count(cluster: MemoryCluster) -> None:
    first, second, notes, others = member(cluster), member(cluster), Notes(), Notes()
    await first.start(notes)
    await settle()
    first.silence()
    await second.start(others)
    await settle()
    assert notes.assignment.partitions == {0, 1}
    group = group_of(cluster, "g", ("t",))
    assert not group.commit(first, group.generation - 1, {("t", 0): 9})
    assert group.committed == {}
    out = await publisher(cluster)
    await out.send(record(b"1"))
    await settle()
    assert notes.values == []
    for part in (first, second, out):
        await part.stop()


async def test_a_silent_member_is_dropped_after_its_session_and_joins_again_when_it_wakes(
    cluster: MemoryCluster,
) -> None:
    first, second, notes, others = member(cluster), member(cluster), Notes(), Notes()
    await first.start(notes)
    await second.start(others)
    await settle()
    generation = notes.assignment.generation
    first.silence()
    await asyncio.sleep(0.02)
    await settle()
    assert others.assignment.partitions == {0, 1}
    proof = asyncio.create_task(first.prove(generation, 0))
    await settle()
    assert not proof.done()
    first.wake()
    assert not await proof
    await settle()
    assert notes.assignment.partitions == {1}
    assert others.assignment.partitions == {0}
    for part in (first, second):
        await part.stop()


async def test_a_member_that_was_silenced_twice_and_woke_in_time_stays(cluster: MemoryCluster) -> None:
    first, notes = member(cluster), Notes()
    await first.start(notes)
    await settle()
    first.silence()
    first.silence()
    first.wake()
    await asyncio.sleep(0.03)
    assert group_of(cluster, "g", ("t",)).members == [first]
    assert await first.prove(notes.assignment.generation, 0)
    await first.stop()


def member(cluster: MemoryCluster) -> MemoryGroupConsumer:
    return MemoryGroupConsumer(cluster, "g", ("t",), session_timeout_s=0.01)
