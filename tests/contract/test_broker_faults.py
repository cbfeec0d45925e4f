"""Brokers that are not there, that end and come back: nothing acknowledged is lost, order holds, work resumes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from broker.kafka_admin import KafkaAdmin
from broker.kafka_consumer import KafkaGroupConsumer
from broker.kafka_publisher import KafkaPublisher
from broker.kafka_tail import KafkaTail
from broker.port import BrokerUnavailable, Outgoing, PublishError, PublishUnknown, Tail
from schemas.settings import KafkaSettings
from tests.support.broker_worlds import KafkaWorld, Recorder, make_topics
from tests.support.kafka_jvm import jvm_kafka, missing_tools
from tests.support.noida import FLUSHED_S, noida_broker
from tests.support.ports import free_port
from tests.support.process import Server

"""The embedded broker has on disk what is so old; a kill -9 loses what it acknowledged in about the last second."""


@pytest.fixture
def embedded() -> Iterator[Server]:
    with noida_broker() as server:
        yield server


@pytest.fixture
def apache() -> Iterator[Server]:
    lacking = missing_tools()
    if lacking is not None:
        pytest.skip(lacking)
    with jvm_kafka() as server:
        yield server


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def kill_and_start(server: Server) -> None:
    """kill -9, a moment of nothing, start."""
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(0.5)
    await asyncio.to_thread(server.start)


class Traffic:
    """Numbered records on one partition, what of them was acknowledged, and what a tail sees of them."""

    def __init__(self, world: KafkaWorld) -> None:
        self.publisher, self.tail = world.publisher(), world.tail()
        self.total = 0
        self.acked: list[int] = []
        self.seen: list[int] = []

    async def start(self, stack: AsyncExitStack) -> None:
        for part in (self.publisher, self.tail):
            stack.push_async_callback(part.stop)
        await self.publisher.start()
        await self.tail.start("out", 0)
        reader = asyncio.create_task(_collect(self.tail, self.seen))
        stack.callback(reader.cancel)

    async def publish(self, count: int) -> None:
        """So many more records, some every 2 ms."""
        for _ in range(count):
            self.publisher.publish(
                Outgoing("out", b"s", b"%d" % self.total, partition=0), _note(self.acked, self.total)
            )
            self.total += 1
            await asyncio.sleep(0.002)

    async def check(self) -> None:
        """Everything was acknowledged in order, and is in the log in order; it may be there twice."""
        async with asyncio.timeout(60):
            await self.publisher.flush()
            while not self.seen or self.seen[-1] < self.total - 1:
                await asyncio.sleep(0.05)
        assert self.acked == list(range(self.total))
        assert list(dict.fromkeys(self.seen)) == list(range(self.total)), "lost or reordered"


async def _collect(tail: Tail, seen: list[int]) -> None:
    while True:
        seen.extend(int(record.value or b"") for record in await tail.batch())


def _note(acked: list[int], number: int) -> Callable[[Exception | None], None]:
    return lambda error: acked.append(number) if error is None else None


class TestRestart:
    async def test_what_is_published_while_the_embedded_broker_is_away_follows_in_order(
        self, embedded: Server, stack: AsyncExitStack
    ) -> None:
        """Quiet before the kill: what this broker acknowledged a moment before is not on its disk yet."""
        world = KafkaWorld(embedded.address)
        await make_topics(world)
        traffic = Traffic(world)
        await traffic.start(stack)
        await traffic.publish(300)
        await traffic.publisher.flush()
        await asyncio.sleep(FLUSHED_S)
        restart = asyncio.create_task(kill_and_start(embedded))
        await asyncio.sleep(0.2)
        await traffic.publish(300)
        await restart
        await traffic.publish(300)
        await traffic.check()

    @pytest.mark.kafka_jvm
    @pytest.mark.timeout(240)
    async def test_a_kill_of_apache_kafka_under_traffic_loses_and_reorders_nothing(
        self, apache: Server, stack: AsyncExitStack
    ) -> None:
        world = KafkaWorld(apache.address)
        await make_topics(world)
        traffic = Traffic(world)
        await traffic.start(stack)
        await traffic.publish(300)
        restart = asyncio.create_task(kill_and_start(apache))
        while not restart.done():
            await traffic.publish(50)
        await restart
        await traffic.publish(300)
        await traffic.check()
        assert traffic.total > 900

    async def test_a_member_reads_on_after_its_broker_came_back(self, embedded: Server, stack: AsyncExitStack) -> None:
        world, recorder = KafkaWorld(embedded.address), Recorder()
        await make_topics(world)
        consumer, publisher = world.consumer(), world.publisher()
        for part in (consumer, publisher):
            stack.push_async_callback(part.stop)
        await publisher.start()
        await consumer.start(recorder)
        await publisher.send(Outgoing("turns", b"s", b"before", partition=1))
        await recorder.until(lambda: recorder.values("turns") == [b"before"])
        consumer.commit(recorder.generation, {("turns", 1): 1})
        await asyncio.sleep(FLUSHED_S)
        generation = recorder.generation
        await kill_and_start(embedded)
        await publisher.send(Outgoing("turns", b"s", b"after", partition=1))
        await recorder.until(lambda: b"after" in recorder.values("turns"))
        assert set(recorder.values("turns")) == {b"before", b"after"}
        await recorder.until(lambda: recorder.generation > generation)
        assert await consumer.prove(recorder.generation, 1)


class TestOutage:
    async def test_a_send_that_never_left_is_an_error_and_one_that_may_have_left_is_unknown(
        self, embedded: Server, stack: AsyncExitStack
    ) -> None:
        settings = KafkaSettings(kafka_bootstrap=embedded.address, topic_prefix="o.", kafka_publish_timeout_s=1.0)
        world = KafkaWorld(embedded.address)
        world.settings = settings
        await make_topics(world)
        await asyncio.sleep(FLUSHED_S)
        publisher = KafkaPublisher(settings, ("out",))
        stack.push_async_callback(publisher.stop)
        await publisher.start()
        await publisher.send(Outgoing("out", b"s", b"fine", partition=0))
        await asyncio.sleep(FLUSHED_S)
        embedded.kill()
        first = asyncio.create_task(publisher.send(Outgoing("out", b"s", b"on its way", partition=0)))
        await asyncio.sleep(0.2)
        second = asyncio.create_task(publisher.send(Outgoing("out", b"s", b"still here", partition=0)))
        with pytest.raises(PublishUnknown):
            await first
        with pytest.raises(PublishError):
            await second
        await asyncio.to_thread(embedded.start)
        async with asyncio.timeout(30):
            await publisher.flush()
        position = await publisher.send(Outgoing("out", b"s", b"later", partition=0))
        assert position.offset == 2, "`still here` must not be in the log"

    async def test_stop_ends_in_time_while_the_broker_is_away(self, embedded: Server) -> None:
        world, recorder = KafkaWorld(embedded.address), Recorder()
        await make_topics(world)
        consumer, publisher, tail = world.consumer(), world.publisher(), world.tail()
        await publisher.start()
        await tail.start("out", 0)
        await consumer.start(recorder)
        await recorder.until(lambda: bool(recorder.assignments))
        consumer.commit(recorder.generation, {("turns", 1): 0})
        failures: list[Exception | None] = []
        embedded.kill()
        publisher.publish(Outgoing("out", b"s", b"v", partition=0), failures.append)
        began = time.monotonic()
        await asyncio.gather(publisher.stop(), tail.stop(), consumer.stop())
        assert time.monotonic() - began < 17
        assert len(failures) == 1
        assert isinstance(failures[0], PublishError | PublishUnknown)


class TestUnreachable:
    @pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
    async def test_every_part_refuses_to_start_within_ten_seconds_and_says_what_to_do(self, host: str) -> None:
        settings = KafkaSettings(kafka_bootstrap=f"{host}:{free_port()}")
        starts: list[Awaitable[object]] = [
            KafkaAdmin(settings).describe(["agent.turns"]),
            KafkaPublisher(settings, ("agent.turns",)).start(),
            KafkaTail(settings).start("agent.replies", 0),
            KafkaGroupConsumer(settings, "group", ("agent.turns", "agent.control")).start(Recorder()),
        ]
        began = time.monotonic()
        results = await asyncio.gather(*starts, return_exceptions=True)
        assert time.monotonic() - began < 10
        for result in results:
            assert isinstance(result, BrokerUnavailable)
            assert settings.kafka_bootstrap in str(result)
            assert "check FLEET_KAFKA_BOOTSTRAP" in str(result)

    async def test_no_address_is_said_so(self) -> None:
        with pytest.raises(BrokerUnavailable, match="FLEET_KAFKA_BOOTSTRAP is empty"):
            await KafkaAdmin(KafkaSettings(kafka_bootstrap="")).brokers()

    async def test_a_port_that_accepts_and_never_answers_is_refused_in_time(self) -> None:
        over = asyncio.Event()

        async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await over.wait()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        async with server:
            settings = KafkaSettings(kafka_bootstrap=f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
            with pytest.raises(BrokerUnavailable):
                async with asyncio.timeout(10):
                    await KafkaAdmin(settings).brokers()
            over.set()
            await asyncio.sleep(0.1)
