"""The shipped in-memory twin of every broker port, over one MemoryCluster and on the caller's loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from broker.lane import Lane, fail
from broker.memory_cluster import DEFAULT_LIMIT_BYTES, MemoryCluster, MemoryRecord, Verdict
from broker.memory_consumer import MemoryGroupConsumer
from broker.memory_group import MemoryGroup
from broker.outbox import Outbox
from broker.port import (
    Acked,
    BrokerUnavailable,
    Extent,
    Outgoing,
    Position,
    PublishError,
    Record,
    TopicState,
)

__all__ = [
    "MemoryAdmin",
    "MemoryCluster",
    "MemoryGroupConsumer",
    "MemoryPublisher",
    "MemoryRecord",
    "MemoryScan",
    "MemoryTail",
    "Verdict",
]

REPEAT_S = 0.1
SEND_TIMEOUT_S = 8.0
STOP_TIMEOUT_S = 5.0


class MemoryPublisher:
    """The Publisher port. A batch that gets no answer is sent again after 0.1 s; later ones of its partition wait."""

    def __init__(self, cluster: MemoryCluster, topics: Sequence[str], *, timeout_s: float = SEND_TIMEOUT_S) -> None:
        self._cluster = cluster
        self._topics = tuple(topics)
        self._timeout_s = timeout_s
        self._outbox = Outbox({}, self._wake)
        self._draining: asyncio.Handle | None = None
        self._repeating: dict[Lane, asyncio.TimerHandle] = {}

    def partition_count(self, topic: str) -> int:
        """How many partitions the topic has. KeyError: not among this publisher's."""
        return self._outbox.partition_count(topic)

    async def start(self) -> None:
        """Raises BrokerUnavailable: the cluster is down or lacks a topic."""
        lanes = {}
        for topic in self._topics:
            state = self._cluster.require_topic(topic)
            limit = int(state.config.get("max.message.bytes", DEFAULT_LIMIT_BYTES))
            lanes[topic] = [Lane(topic, partition, limit) for partition in range(state.partitions)]
        self._outbox = Outbox(lanes, self._wake)

    def publish(self, outgoing: Outgoing, acked: Acked | None = None) -> None:
        """See the port."""
        self._outbox.publish(outgoing, acked)

    async def send(self, outgoing: Outgoing) -> Position:
        """See the port."""
        return await self._outbox.send(outgoing, self._timeout_s)

    async def flush(self) -> None:
        """See the port."""
        await self._outbox.flush()

    async def stop(self) -> None:
        """Flush for at most 5 s; what is left fails. Safe to call twice."""
        self._outbox.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.flush()
        except TimeoutError:
            self._outbox.give_up()
        for handle in (self._draining, *self._repeating.values()):
            if handle is not None:
                handle.cancel()

    def _wake(self) -> None:
        if self._draining is None:
            self._draining = asyncio.get_running_loop().call_soon(self._drain)

    def _drain(self) -> None:
        self._draining = None
        for lane in self._outbox.ready():
            lane.take(lambda _, __: True)
            self._attempt(lane)

    def _attempt(self, lane: Lane) -> None:
        """One batch as the broker sees it, record by record; the first without an answer ends the batch."""
        where: list[Position] = []
        for index, (outgoing, _) in enumerate(lane.in_flight):
            verdict = Verdict.DROP if self._cluster.down else self._cluster.judge(outgoing)
            if verdict is Verdict.TAKE:
                where.append(self._cluster.append(lane.topic, lane.partition, outgoing))
                continue
            if verdict is Verdict.TAKE_SILENTLY:
                self._cluster.append(lane.topic, lane.partition, outgoing)
            self._split(lane, index, refused=verdict is Verdict.REFUSE)
            break
        self._land(lane, where)

    def _split(self, lane: Lane, index: int, *, refused: bool) -> None:
        """Keep in flight what the broker took; the rest waits again (the first of it fails if it was refused)."""
        taken, rest = lane.in_flight[:index], lane.in_flight[index:]
        if refused:
            fail(rest.pop(0), PublishError("the broker refused the record"))
            self._outbox.settle(1)
        lane.in_flight = rest
        lane.back()
        lane.in_flight = taken
        if lane.waiting:
            lane.scheduled = True  # by the timer below, not by the next record
            loop = asyncio.get_running_loop()
            self._repeating[lane] = loop.call_later(0 if refused else REPEAT_S, self._repeat, lane)

    def _repeat(self, lane: Lane) -> None:
        del self._repeating[lane]
        lane.scheduled = False
        self._outbox.schedule(lane)

    def _land(self, lane: Lane, where: Sequence[Position]) -> None:
        """Answers come in a later step, as over a network."""

        def answer(_: Outgoing, index: int) -> Position:
            return where[index]

        if lane.in_flight:
            asyncio.get_running_loop().call_soon(self._outbox.landed, lane, answer)


class MemoryTail:
    """The Tail port."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster
        self._place: tuple[str, int] | None = None
        self._next = 0
        self._news = asyncio.Event()

    async def start(self, topic: str, partition: int) -> None:
        """From the end of the log on. Raises BrokerUnavailable."""
        self._cluster.require_topic(topic, partition)
        log = self._cluster.log(topic, partition)
        self._place, self._next = (topic, partition), log.end
        log.watchers.append(self._news.set)

    async def batch(self) -> Sequence[Record]:
        """The next records, at least one. BrokerUnavailable: it is stopped."""
        while self._place is not None:
            found = () if self._cluster.down else self._cluster.log(*self._place).read(self._next, 500)
            if found:
                self._next = found[-1].offset + 1
                return found
            self._news.clear()
            await self._news.wait()
        raise BrokerUnavailable("the tail is stopped")

    async def stop(self) -> None:
        """Safe to call twice."""
        if self._place is not None:
            self._cluster.log(*self._place).watchers.remove(self._news.set)
        self._place = None
        self._news.set()


class MemoryScan:
    """The Scan port."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster

    async def extent(self, topic: str, group: str | None = None) -> Extent:
        """See the port."""
        count = self._cluster.require_topic(topic).partitions
        found = self._cluster.groups.get(group or "")
        committed = found.committed if isinstance(found, MemoryGroup) else {}
        logs = {partition: self._cluster.log(topic, partition) for partition in range(count)}
        return Extent(
            {partition: log.start for partition, log in logs.items()},
            {partition: log.end for partition, log in logs.items()},
            {partition: committed[topic, partition] for partition in logs if (topic, partition) in committed},
        )

    async def read(self, topic: str) -> AsyncIterator[Sequence[Record]]:
        """See the port."""
        count = self._cluster.require_topic(topic).partitions
        logs = [self._cluster.log(topic, partition) for partition in range(count)]
        for log, end in [(log, log.end) for log in logs]:
            self._cluster.require_up()
            if found := log.read(log.start, end - log.start):
                yield found


class MemoryAdmin:
    """The Admin port."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster

    async def brokers(self) -> int:
        """See the port."""
        self._cluster.require_up()
        return self._cluster.broker_count

    async def describe(self, names: Sequence[str]) -> Mapping[str, TopicState]:
        """See the port."""
        self._cluster.require_up()
        return {name: self._cluster.topics[name] for name in names if name in self._cluster.topics}

    async def create(self, topic: TopicState) -> None:
        """See the port."""
        self._cluster.require_up()
        self._cluster.make(topic)

    async def alter_config(self, name: str, config: Mapping[str, str]) -> None:
        """See the port."""
        old = self._cluster.require_topic(name)
        self._cluster.topics[name] = TopicState(
            name, old.partitions, old.replication_factor, {**old.config, **config}, old.topic_id
        )

    async def add_partitions(self, name: str, total: int) -> None:
        """See the port."""
        self._cluster.require_topic(name)
        self._cluster.grow(name, total)

    async def stop(self) -> None:
        """See the port."""
