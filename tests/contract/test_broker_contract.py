"""One suite for every implementation of the broker's ports: the in-memory twin, the embedded broker, Apache Kafka."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from broker.partition import partition_of
from broker.port import (
    Acked,
    BrokerUnavailable,
    GroupConsumer,
    Outgoing,
    Publisher,
    PublishError,
    Record,
    Tail,
    TopicState,
)
from broker.topics import Kind, TopicsMismatch, apply, check, require_topics
from schemas.topics import load_topics
from tests.support.broker_worlds import KafkaWorld, MemoryWorld, Recorder, World, make_topics

PARTITIONS = 6

Join = Callable[[], Awaitable[tuple[GroupConsumer, Recorder]]]


@pytest.fixture(params=["memory", "embedded", pytest.param("apache", marks=pytest.mark.kafka_jvm)])
async def world(request: pytest.FixtureRequest) -> World:
    made: World
    if request.param == "memory":
        made = MemoryWorld()
    elif request.param == "embedded":
        made = KafkaWorld(request.getfixturevalue("noida").address, expires=False, tells_ids=False)
    else:
        made = KafkaWorld(request.getfixturevalue("apache_kafka").address, session_timeout_ms=3_000)
    await make_topics(made)
    return made


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def publisher(world: World, stack: AsyncExitStack) -> Publisher:
    publisher = world.publisher()
    stack.push_async_callback(publisher.stop)
    await publisher.start()
    return publisher


@pytest.fixture
def join(world: World, stack: AsyncExitStack) -> Join:
    async def join() -> tuple[GroupConsumer, Recorder]:
        consumer, recorder = world.consumer(), Recorder()
        stack.push_async_callback(consumer.stop)
        await consumer.start(recorder)
        await recorder.until(lambda: bool(recorder.assignments))
        return consumer, recorder

    return join


async def open_tail(world: World, stack: AsyncExitStack, partition: int) -> Tail:
    tail = world.tail()
    stack.push_async_callback(tail.stop)
    await tail.start("out", partition)
    return tail


async def read(tail: Tail, count: int) -> list[bytes | None]:
    """The next `count` values."""
    values: list[bytes | None] = []
    async with asyncio.timeout(30):
        while len(values) < count:
            values.extend(record.value for record in await tail.batch())
    return values


def numbered(count: int, topic: str, sessions: int = 20) -> list[Outgoing]:
    return [Outgoing(topic, b"s%d" % (number % sessions), b"%d" % number) for number in range(count)]


class TestGroupConsumer:
    async def test_every_record_comes_once_and_in_the_order_of_its_partition(
        self, publisher: Publisher, join: Join
    ) -> None:
        for outgoing in numbered(3_000, "turns"):
            publisher.publish(outgoing)
        await publisher.flush()
        _, recorder = await join()
        await recorder.until(lambda: len(recorder.records) == 3_000)
        await recorder.quiet(0.2)
        assert len(recorder.records) == 3_000
        for partition in range(PARTITIONS):
            of_it = [record for record in recorder.records if record.partition == partition]
            assert [record.offset for record in of_it] == list(range(len(of_it)))
            assert all(partition_of(record.key or b"", PARTITIONS) == partition for record in of_it)
        for session in {record.key for record in recorder.records}:
            numbers = [int(record.value or b"") for record in recorder.records if record.key == session]
            assert numbers == sorted(numbers)

    async def test_a_record_arrives_as_it_was_published(self, world: World, publisher: Publisher, join: Join) -> None:
        stamp = int(time.time() * 1000) - 60_000  # not older than the broker keeps records
        headers = [("ce_type", b"turnfleet.turn.v1"), ("reply_to", b"2:gw-1")]
        position = await publisher.send(
            Outgoing("control", b"s1", None, partition=4, headers=headers, timestamp_ms=stamp)
        )
        consumer, recorder = await join()
        await recorder.until(lambda: bool(recorder.records))
        record = recorder.records[0]
        assert (record.topic, record.partition, record.offset) == (consumer.name("control"), 4, position.offset)
        assert (record.timestamp, record.key, record.value) == (stamp, b"s1", None)
        assert list(record.headers) == headers
        assert position.timestamp_ms == stamp

    async def test_three_members_share_the_partitions_and_each_has_the_same_of_both_topics(
        self, publisher: Publisher, join: Join
    ) -> None:
        recorders = [(await join())[1] for _ in range(3)]
        for recorder in recorders:
            await recorder.until_partitions(2)
        assert sorted(part for recorder in recorders for part in recorder.partitions) == list(range(PARTITIONS))
        for partition in range(PARTITIONS):
            publisher.publish(Outgoing("turns", b"k", b"turn", partition=partition))
            publisher.publish(Outgoing("control", b"k", b"control", partition=partition))
        for recorder in recorders:
            await recorder.until_records(4)
            places = [(record.topic.rsplit(".")[-1], record.partition) for record in recorder.records]
            assert set(places) == {(name, part) for name in ("turns", "control") for part in recorder.partitions}
            assert set(recorder.assignments[-1].offsets) == set(places)

    async def test_a_new_generation_is_announced_before_its_records_and_none_of_an_older_one_follow(
        self, publisher: Publisher, join: Join
    ) -> None:
        _, first = await join()
        publishing = asyncio.create_task(_keep_publishing(publisher))
        _, second = await join()
        _, third = await join()
        await third.until(lambda: bool(third.records))
        publishing.cancel()
        for recorder in (first, second, third):
            present = 0
            for what, generation in recorder.told:
                # An assignment that the next rebalance took back before anybody could be told is never told.
                assert generation > present if what == "assigned" else generation == present
                present = generation
            assert recorder.told[0][0] == "assigned"
        assert len(first.assignments) >= 2

    async def test_a_paused_partition_stays_paused_over_a_rebalance_and_goes_on_where_it_was(
        self, publisher: Publisher, join: Join
    ) -> None:
        consumer, recorder = await join()
        everything = frozenset(range(PARTITIONS))
        consumer.pause("turns", everything)
        await asyncio.sleep(0.3)
        _, other = await join()
        await recorder.until(lambda: len(recorder.partitions) == 3)
        for partition in range(PARTITIONS):
            publisher.publish(Outgoing("turns", b"k", b"turn", partition=partition))
            publisher.publish(Outgoing("control", b"k", b"control", partition=partition))
        await recorder.until(lambda: len(recorder.values("control")) == 3)
        await other.until(lambda: len(other.values("turns")) == 3)
        await recorder.quiet(0.4)
        assert recorder.values("turns") == []
        consumer.pause("turns", frozenset())
        await recorder.until(lambda: len(recorder.values("turns")) == 3)
        assert len(recorder.values("control")) == 3

    async def test_what_was_committed_does_not_come_again_to_the_next_member(
        self, publisher: Publisher, join: Join
    ) -> None:
        for number in range(10):
            publisher.publish(Outgoing("turns", b"k", b"%d" % number, partition=2))
        consumer, recorder = await join()
        await recorder.until(lambda: len(recorder.records) == 10)
        consumer.commit(recorder.generation, {("turns", 2): 7})
        await consumer.stop()
        _, following = await join()
        await following.until(lambda: len(following.records) == 3)
        assert following.values("turns") == [b"7", b"8", b"9"]
        assert following.assignments[-1].offsets["turns", 2] == 7

    async def test_a_commit_beyond_the_end_is_one_of_a_topic_that_is_gone_and_reading_begins_at_the_beginning(
        self, publisher: Publisher, join: Join
    ) -> None:
        consumer, recorder = await join()
        await recorder.until(lambda: recorder.generation > 0)
        consumer.commit(recorder.generation, {("turns", 2): 500})
        await consumer.stop()
        for number in range(3):
            publisher.publish(Outgoing("turns", b"k", b"%d" % number, partition=2))
        await publisher.flush()
        _, second = await join()
        await second.until(lambda: len(second.values("turns")) == 3)
        assert second.assignments[-1].offsets["turns", 2] == 0

    async def test_a_commit_of_an_older_generation_is_forgotten(self, publisher: Publisher, join: Join) -> None:
        for number in range(4):
            publisher.publish(Outgoing("turns", b"k", b"%d" % number, partition=0))
        consumer, recorder = await join()
        await recorder.until(lambda: len(recorder.records) == 4)
        old = recorder.generation
        await consumer.rejoin()
        await recorder.until(lambda: recorder.generation > old)
        consumer.commit(old, {("turns", 0): 4})
        await consumer.stop()
        _, following = await join()
        assert following.assignments[-1].offsets["turns", 0] == 0

    async def test_a_commit_of_partitions_it_has_lost_harms_neither_the_others_nor_the_member(
        self, publisher: Publisher, join: Join
    ) -> None:
        for partition in range(PARTITIONS):
            publisher.publish(Outgoing("turns", b"k", b"v", partition=partition))
        consumer, recorder = await join()
        await recorder.until(lambda: len(recorder.records) == PARTITIONS)
        _, other = await join()
        await recorder.until(lambda: len(recorder.partitions) == 3)
        consumer.commit(recorder.generation, {("turns", partition): 1 for partition in range(PARTITIONS)})
        await asyncio.sleep(0.4)
        await consumer.rejoin()
        await other.until(lambda: len(other.assignments) > 1)
        generation = recorder.generation
        await consumer.rejoin()
        await recorder.until(lambda: recorder.generation > generation)
        kept = {part: recorder.assignments[-1].offsets["turns", part] for part in recorder.partitions}
        assert kept == dict.fromkeys(recorder.partitions, 1)

    async def test_a_member_can_prove_that_it_owns_what_it_was_given_and_nothing_else(self, join: Join) -> None:
        consumer, recorder = await join()
        assert await consumer.prove(recorder.generation, 3)
        assert all(await asyncio.gather(*(consumer.prove(recorder.generation, part) for part in range(PARTITIONS))))
        assert not await consumer.prove(recorder.generation - 1, 3)
        assert not await consumer.prove(recorder.generation + 1, 3)
        await join()
        await recorder.until(lambda: len(recorder.partitions) == 3)
        lost = min(frozenset(range(PARTITIONS)) - recorder.partitions)
        assert not await consumer.prove(recorder.generation, lost)
        assert await consumer.prove(recorder.generation, min(recorder.partitions))

    async def test_a_proof_does_not_move_what_is_committed(self, publisher: Publisher, join: Join) -> None:
        for number in range(10):
            publisher.publish(Outgoing("turns", b"k", b"%d" % number, partition=2))
        consumer, recorder = await join()
        await recorder.until(lambda: len(recorder.records) == 10)
        consumer.commit(recorder.generation, {("turns", 2): 4})
        await asyncio.sleep(0.4)
        assert await consumer.prove(recorder.generation, 2)
        await consumer.stop()
        _, following = await join()
        assert following.assignments[-1].offsets["turns", 2] == 4

    async def test_a_member_that_fell_silent_is_replaced_and_cannot_prove_ownership_when_it_wakes(
        self, request: pytest.FixtureRequest, world: World, publisher: Publisher, join: Join
    ) -> None:
        if not world.expires:
            request.applymarker(
                pytest.mark.xfail(strict=True, reason="the embedded broker never expires a silent member")
            )
        consumer, recorder = await join()
        _, other = await join()
        await recorder.until(lambda: len(recorder.partitions) == 3)
        generation, partition = recorder.generation, min(recorder.partitions)
        world.silence(consumer)
        try:
            await other.until(lambda: len(other.partitions) == PARTITIONS, 10)
            proof = asyncio.create_task(consumer.prove(generation, partition))
            await asyncio.sleep(0.1)
        finally:
            world.wake(consumer)
        assert not await proof
        await recorder.until(lambda: recorder.generation > generation and len(recorder.partitions) == 3)
        await other.until(lambda: len(other.partitions) == 3)
        publisher.publish(Outgoing("turns", b"k", b"after", partition=min(recorder.partitions)))
        await recorder.until(lambda: recorder.values("turns") == [b"after"])

    async def test_rejoin_brings_a_new_generation_that_reads_on_from_what_is_committed(
        self, publisher: Publisher, join: Join
    ) -> None:
        for number in range(6):
            publisher.publish(Outgoing("turns", b"k", b"%d" % number, partition=1))
        consumer, recorder = await join()
        await recorder.until(lambda: len(recorder.records) == 6)
        consumer.commit(recorder.generation, {("turns", 1): 4})
        generation = recorder.generation
        await consumer.rejoin()
        await recorder.until(lambda: recorder.generation > generation and len(recorder.records) == 8)
        assert recorder.values("turns")[6:] == [b"4", b"5"]

    async def test_lag_tells_what_is_not_read_yet(self, publisher: Publisher, join: Join) -> None:
        consumer, recorder = await join()
        publisher.publish(Outgoing("turns", b"k", b"v", partition=1))
        await recorder.until(lambda: len(recorder.records) == 1)
        await asyncio.sleep(0.3)
        assert set((await consumer.lag()).values()) <= {0}
        consumer.pause("turns", frozenset({1}))
        await asyncio.sleep(0.3)
        assert (await consumer.lag()).get(("turns", 1)) == 0

    async def test_stop_can_be_called_twice_and_frees_the_partitions_at_once(self, join: Join) -> None:
        consumer, _ = await join()
        _, other = await join()
        await consumer.stop()
        await consumer.stop()
        await other.until(lambda: len(other.partitions) == PARTITIONS, 10)


def _noting(acked: list[int], number: int) -> Acked:
    return lambda _: acked.append(number)


async def _keep_publishing(publisher: Publisher) -> None:
    while True:
        for partition in range(PARTITIONS):
            publisher.publish(Outgoing("turns", b"k", b"v", partition=partition))
        await asyncio.sleep(0.01)


class TestPublisher:
    async def test_thousands_of_records_over_three_partitions_keep_their_order(
        self, world: World, publisher: Publisher, stack: AsyncExitStack
    ) -> None:
        tails = [await open_tail(world, stack, partition) for partition in range(3)]
        acks: list[Exception | None] = []
        for number in range(6_000):
            publisher.publish(Outgoing("out", b"s", b"%d" % number, partition=number % 3), acks.append)
            if number % 50 == 0:
                await asyncio.sleep(0)
        await publisher.flush()
        assert acks == [None] * 6_000
        for partition, tail in enumerate(tails):
            assert await read(tail, 2_000) == [b"%d" % number for number in range(partition, 6_000, 3)]

    async def test_acknowledgements_come_in_the_order_of_publishing(self, publisher: Publisher) -> None:
        acked: list[int] = []
        for number in range(500):
            publisher.publish(Outgoing("out", b"s", b"v", partition=0), _noting(acked, number))
        assert acked == []
        await publisher.flush()
        assert acked == list(range(500))

    async def test_many_sends_at_once_give_each_its_own_position(self, publisher: Publisher) -> None:
        positions = await asyncio.gather(*(publisher.send(outgoing) for outgoing in numbered(300, "turns")))
        assert len({(position.partition, position.offset) for position in positions}) == 300
        for outgoing, position in zip(numbered(300, "turns"), positions, strict=True):
            assert position.partition == partition_of(outgoing.key or b"", PARTITIONS)

    async def test_a_record_that_is_too_large_fails_alone(
        self, world: World, publisher: Publisher, stack: AsyncExitStack
    ) -> None:
        tail = await open_tail(world, stack, 1)
        failures: list[Exception | None] = []
        publisher.publish(Outgoing("out", b"s", b"before", partition=1))
        publisher.publish(Outgoing("out", b"s", b"x" * 200_000, partition=1), failures.append)
        publisher.publish(Outgoing("out", b"s", b"after", partition=1))
        with pytest.raises(PublishError, match="larger"):
            await publisher.send(Outgoing("out", b"s", b"x" * 200_000, partition=1))
        await publisher.flush()
        assert await read(tail, 2) == [b"before", b"after"]
        assert [type(failure) for failure in failures] == [PublishError]

    async def test_a_record_as_large_as_allowed_passes(self, world: World, publisher: Publisher) -> None:
        position = await publisher.send(Outgoing("out", b"s", b"x" * 99_000, partition=1))
        assert position.offset == 0

    async def test_a_partition_that_does_not_exist_is_refused(self, publisher: Publisher) -> None:
        with pytest.raises(PublishError, match="no partition 3"):
            await publisher.send(Outgoing("out", b"s", b"v", partition=3))

    async def test_partition_counts_are_those_of_the_cluster(self, publisher: Publisher) -> None:
        assert (publisher.partition_count("turns"), publisher.partition_count("out")) == (PARTITIONS, 3)

    async def test_nothing_is_taken_after_stop(self, publisher: Publisher) -> None:
        await publisher.stop()
        await publisher.stop()
        with pytest.raises(PublishError, match="closed"):
            await publisher.send(Outgoing("out", b"s", b"v"))


class TestTail:
    async def test_it_sees_everything_after_its_start_and_nothing_before(
        self, world: World, publisher: Publisher, stack: AsyncExitStack
    ) -> None:
        await publisher.send(Outgoing("out", b"s", b"old", partition=2))
        tail = await open_tail(world, stack, 2)
        for number in range(100):
            publisher.publish(Outgoing("out", b"s", b"%d" % number, partition=2))
            publisher.publish(Outgoing("out", b"s", b"elsewhere", partition=1))
        assert await read(tail, 100) == [b"%d" % number for number in range(100)]

    async def test_a_reader_that_waits_is_told_when_it_is_stopped(self, world: World, stack: AsyncExitStack) -> None:
        tail = await open_tail(world, stack, 0)
        waiting = asyncio.create_task(_batch(tail))
        await asyncio.sleep(0.05)
        await tail.stop()
        await tail.stop()
        with pytest.raises(BrokerUnavailable):
            await asyncio.wait_for(waiting, 10)


async def _batch(tail: Tail) -> object:
    return await tail.batch()


class TestScan:
    async def test_it_reads_every_record_up_to_now_in_order_and_ends(
        self, world: World, publisher: Publisher, stack: AsyncExitStack
    ) -> None:
        headers = (("a", b"1"), ("a", b"\xff"))
        for number in range(1_200):
            publisher.publish(Outgoing("out", b"s", b"%d" % number, partition=number % 2 * 2, headers=headers))
        await publisher.flush()
        found: list[Record] = []
        async with asyncio.timeout(30):
            async for records in world.scan().read("out"):
                if not found:  # what comes later is not waited for
                    await publisher.send(Outgoing("out", b"s", b"late", partition=2))
                found.extend(records)
        for partition in (0, 2):
            of_it = [record for record in found if record.partition == partition]
            assert [record.offset for record in of_it] == list(range(600))
            assert [record.value for record in of_it] == [b"%d" % (2 * n + partition // 2) for n in range(600)]
        assert len(found) == 1_200
        assert (found[0].key, tuple(found[0].headers)) == (b"s", headers)

    async def test_an_empty_topic_is_over_at_once_and_a_missing_one_is_refused(self, world: World) -> None:
        async with asyncio.timeout(30):
            assert [records async for records in world.scan().read("out")] == []
            with pytest.raises(BrokerUnavailable, match="fleet topics apply"):
                async for _ in world.scan().read("nowhere"):
                    raise AssertionError("there is nothing to read")

    async def test_the_extent_tells_ends_and_what_the_group_has_committed(
        self, world: World, publisher: Publisher, join: Join
    ) -> None:
        assert not (await world.scan().extent("turns", "nobody")).committed
        for number in range(10):
            publisher.publish(Outgoing("turns", b"k", b"%d" % number, partition=2))
        consumer, recorder = await join()
        await recorder.until(lambda: len(recorder.records) == 10)
        consumer.commit(recorder.generation, {("turns", 2): 4})
        await consumer.stop()
        extent = await world.scan().extent("turns", "group")

        assert (extent.first, extent.end) == (dict.fromkeys(range(6), 0), {**dict.fromkeys(range(6), 0), 2: 10})
        assert {partition: offset for partition, offset in extent.committed.items() if offset} == {2: 4}
        assert not (await world.scan().extent("control", "group")).end[2]
        with pytest.raises(BrokerUnavailable, match="fleet topics apply"):
            await world.scan().extent("nowhere", "group")


class TestStart:
    async def test_a_topic_that_does_not_exist_is_refused_and_not_created(self, world: World) -> None:
        admin, tail = world.admin(), world.tail()
        try:
            with pytest.raises(BrokerUnavailable, match="fleet topics apply"):
                await tail.start("nowhere", 0)
            await asyncio.sleep(0.2)
            assert await admin.describe(["nowhere"]) == {}
        finally:
            await tail.stop()
            await admin.stop()

    async def test_streams_that_belong_together_must_be_cut_alike(self, world: World) -> None:
        admin = world.admin()
        await admin.add_partitions("control", 7)
        await admin.stop()
        consumer = world.consumer()
        with pytest.raises(BrokerUnavailable, match="differently"):
            await consumer.start(Recorder())
        await consumer.stop()


class TestAdmin:
    async def test_describe_tells_what_was_created_and_only_that(self, world: World) -> None:
        admin = world.admin()
        try:
            await admin.create(TopicState("kept", 2, 1, {"retention.ms": "3600000"}))
            await admin.create(TopicState("kept", 5, 1, {}))
            found = await admin.describe(["kept", "unknown"])
        finally:
            await admin.stop()
        assert list(found) == ["kept"]
        assert (found["kept"].partitions, found["kept"].replication_factor) == (2, 1)
        assert found["kept"].config["retention.ms"] == "3600000"

    async def test_altering_one_key_leaves_the_others(self, world: World) -> None:
        admin = world.admin()
        try:
            await admin.create(TopicState("kept", 2, 1, {"retention.ms": "3600000", "max.message.bytes": "90000"}))
            await admin.alter_config("kept", {"retention.ms": "7200000"})
            config = (await admin.describe(["kept"]))["kept"].config
        finally:
            await admin.stop()
        assert (config["retention.ms"], config["max.message.bytes"]) == ("7200000", "90000")

    async def test_a_topic_can_grow(self, world: World) -> None:
        admin = world.admin()
        try:
            await admin.create(TopicState("grows", 2, 1, {}))
            await admin.add_partitions("grows", 5)
            assert (await admin.describe(["grows"]))["grows"].partitions == 5
            assert await admin.brokers() == 1
        finally:
            await admin.stop()

    async def test_topics_yaml_applied_leaves_no_difference_and_drift_is_seen_and_mended(self, world: World) -> None:
        admin, topics = world.admin(), load_topics()
        try:
            missing = await check(admin, topics)
            assert [entry.kind for entry in missing] == [Kind.MISSING] * len(topics.topics)
            with pytest.raises(TopicsMismatch, match="fleet topics apply"):
                await require_topics(admin, topics)
            assert len((await apply(admin, topics)).done) == len(topics.topics)
            assert await check(admin, topics) == []
            await require_topics(admin, topics)
            await admin.alter_config("agent.turns", {"retention.ms": "3600000"})
            await admin.add_partitions("agent.replies", 5)
            assert {entry.kind for entry in await check(admin, topics)} == {Kind.CONFIG, Kind.PARTITIONS}
            applied = await apply(admin, topics)
            assert applied.done == ("agent.turns: retention.ms set to 604800000",)
            assert [entry.topic for entry in applied.refused] == ["agent.replies"]
            with pytest.raises(TopicsMismatch, match="fixed for its life"):
                await require_topics(admin, topics)
        finally:
            await admin.stop()

    async def test_a_topic_id_is_the_same_every_time_where_the_broker_tells_one(self, world: World) -> None:
        admin = world.admin()
        try:
            first = (await admin.describe(["turns", "out"])).values()
            again = (await admin.describe(["turns", "out"])).values()
        finally:
            await admin.stop()
        assert [state.topic_id for state in first] == [state.topic_id for state in again]
        assert len({state.topic_id for state in first}) == (2 if world.tells_ids else 1)
