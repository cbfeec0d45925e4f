"""A Kafka cluster in memory: topics, logs, groups. No thread, no I/O; time comes from the running loop and `clock_ms`.

For tests, simulation under a virtual-time loop, and demos. What happens is decided by the calls and the hooks alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from broker.port import BrokerUnavailable, Outgoing, Position, TopicState
from schemas.codec import Headers

DEFAULT_LIMIT_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """One record of a log, in the shape of the port's Record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Verdict(StrEnum):
    """What becomes of a record that reaches the broker."""

    TAKE = "take"
    TAKE_SILENTLY = "take_silently"
    """It is in the log, and the answer is lost."""
    DROP = "drop"
    """It is lost, and so is the answer."""
    REFUSE = "refuse"
    """It is not in the log, and the publisher is told."""


@dataclass
class Log:
    """One partition. `start` grows by retention; `watchers` are told of every new record."""

    topic: str
    partition: int
    records: list[MemoryRecord] = field(default_factory=list)
    start: int = 0
    watchers: list[Callable[[], None]] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The offset that the next record gets."""
        return self.start + len(self.records)

    def wake(self) -> None:
        """Have every watcher look."""
        for watcher in tuple(self.watchers):
            watcher()

    def read(self, offset: int, limit: int) -> Sequence[MemoryRecord]:
        """At most `limit` records from `offset` on; from the start of the log where that is later."""
        begin = max(0, offset - self.start)
        return self.records[begin : begin + limit]


class MemoryCluster:
    """Topics and logs by bare name; records carry `prefix` and name. Groups live in `broker.memory_group`.

    `down` (read it; `fail` and `recover` set it): no call gets an answer. `judge`: a hook that decides what becomes of
    each record that reaches the broker.
    """

    def __init__(self, *, prefix: str = "", brokers: int = 1, clock_ms: Callable[[], int] | None = None) -> None:
        self.prefix = prefix
        self.broker_count = brokers
        self.down = False
        self.judge: Callable[[Outgoing], Verdict] = lambda _: Verdict.TAKE
        self.clock_ms = clock_ms or (lambda: int(time.time() * 1000))
        self.topics: dict[str, TopicState] = {}
        self.groups: dict[str, object] = {}
        self._logs: dict[tuple[str, int], Log] = {}
        self._made = 0

    def fail(self) -> None:
        """From now on nothing gets an answer, until `recover`."""
        self.down = True

    def recover(self) -> None:
        """Answer again; whoever waits for records looks anew."""
        self.down = False
        for log in self._logs.values():
            log.wake()

    def require_up(self) -> None:
        """BrokerUnavailable while the cluster is down."""
        if self.down:
            raise BrokerUnavailable("the cluster in memory is down: call its `recover`")

    def require_topic(self, topic: str, partition: int = 0) -> TopicState:
        """The topic, if it exists with this partition; BrokerUnavailable otherwise or while the cluster is down."""
        self.require_up()
        state = self.topics.get(topic)
        if state is None or partition >= state.partitions:
            raise BrokerUnavailable(f"the cluster lacks {topic}, partition {partition}: run `fleet topics apply`")
        return state

    def log(self, topic: str, partition: int) -> Log:
        """The log of one partition. KeyError: there is none."""
        return self._logs[topic, partition]

    def make(self, state: TopicState) -> None:
        """Create a topic with a new id; one that is there already is left as it is."""
        if state.name in self.topics:
            return
        self._made += 1
        identity = f"memory-{self._made}"
        made = TopicState(state.name, state.partitions, state.replication_factor, dict(state.config), identity)
        self.topics[state.name] = made
        self.grow(state.name, state.partitions)

    def grow(self, name: str, total: int) -> None:
        """Give the topic as many partitions; existing logs stay."""
        old = self.topics[name]
        self.topics[name] = TopicState(name, total, old.replication_factor, old.config, old.topic_id)
        for partition in range(total):
            self._logs.setdefault((name, partition), Log(self.prefix + name, partition))

    def make_anew(self, name: str) -> None:
        """Delete the topic and create it again: another id, empty logs, whoever watched the old ones hears nothing."""
        state = self.topics.pop(name)
        for partition in range(state.partitions):
            del self._logs[name, partition]
        self.make(state)

    def append(self, topic: str, partition: int, outgoing: Outgoing) -> Position:
        """Put a record at the end of a log and tell its watchers."""
        log = self._logs[topic, partition]
        stamp = self.clock_ms() if outgoing.timestamp_ms is None else outgoing.timestamp_ms
        offset = log.end
        headers = tuple(outgoing.headers)
        log.records.append(MemoryRecord(log.topic, partition, offset, stamp, outgoing.key, outgoing.value, headers))
        log.wake()
        return Position(partition, offset, stamp)
