"""The broker's ports: what gateway and workers need of Kafka, and nothing of any client library.

Both adapters (`broker.kafka_*`, `broker.memory`) pass the contract suite in `tests/contract`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from schemas import codec
from schemas.codec import Headers


class Record(codec.Record, Protocol):
    """One record as it was read."""

    @property
    def topic(self) -> str: ...


class Outgoing(NamedTuple):
    """One record to publish. `topic` is the bare name of topics.yaml; the adapter puts the prefix before it.

    `partition` None: murmur2 over the key. `timestamp_ms` None: now.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: Headers = ()
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a published record lies."""

    partition: int
    offset: int
    timestamp_ms: int


class PublishError(Exception):
    """The record is certainly not in the log: refused by the broker or never sent. Publishing again is safe."""


class PublishUnknown(Exception):
    """Nobody knows whether the record is in the log (no answer in time). Only the same turn id may be sent again."""


class BrokerUnavailable(Exception):
    """No broker answers at the configured addresses, or it refused us at start. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the group gave this member: `generation` rises with every assignment of this process.

    `partitions` are numbers that hold for every stream of the subscription (co-partitioned); `offsets` is the first
    offset that will be read, by (topic, partition), topics as bare names.
    """

    generation: int
    partitions: frozenset[int]
    offsets: Mapping[tuple[str, int], int] = field(default_factory=dict)


class Listener(Protocol):
    """What a group consumer tells its owner. Every method is called on the loop that called `start`, in this order
    of facts: `assigned` before any record of that generation; after `assigned` no record of an older generation.
    """

    def assigned(self, assignment: Assignment) -> None:
        """A new assignment replaces the whole of the last one. Called for every rebalance, also when nothing moved,
        but not for one that the next rebalance took back before it could be told: then the generation skips."""

    def received(self, generation: int, records: Sequence[Record]) -> None:
        """Records in offset order by partition. `record.topic` is the bare name only if the prefix is empty:
        compare with `GroupConsumer.name(topic)`."""

    def failed(self, error: BaseException) -> None:
        """The consumer's loop ended for a reason that does not pass. The process drains and ends."""


class GroupConsumer(Protocol):
    """A member of a consumer group over co-partitioned topics, polling on a loop and thread of its own.

    An implementation must not: commit by itself, stop polling while partitions are paused, let a slow listener delay
    heartbeats, or deliver a record of an older generation after `assigned`.
    """

    def name(self, topic: str) -> str:
        """The topic's name on the cluster: prefix and bare name."""

    async def start(self, listener: Listener) -> None:
        """Join. Returns once the member polls (the first `assigned` may come later). Raises BrokerUnavailable."""

    def pause(self, topic: str, partitions: frozenset[int]) -> None:
        """From now on exactly these partitions of `topic` are paused; paused again on every assignment. Thread-safe,
        returns at once. Records that are already fetched may still come."""

    def commit(self, generation: int, offsets: Mapping[tuple[str, int], int]) -> None:
        """A hint: commit these next offsets soon, if `generation` is still the current one; else forget them.
        Coalesced (the latest wins), never raises, returns at once."""

    async def prove(self, generation: int, partition: int) -> bool:
        """Proof of membership: commit a current offset of this partition under this generation. False: replaced, or
        no longer assigned. Failures that pass (coordinator moving) are repeated for up to 10 s, then False."""

    async def rejoin(self) -> None:
        """Leave the group's present generation and join again; `assigned` follows."""

    async def lag(self) -> Mapping[tuple[str, int], int]:
        """Records not yet read by (bare topic, partition), from what the fetcher knows; no extra requests."""

    async def stop(self) -> None:
        """Commit what was hinted, leave the group, end the thread. Safe to call twice."""


Acked = Callable[[Exception | None], None]


class Publisher(Protocol):
    """Idempotent, acks=all. One per process.

    An implementation must not reorder records of one partition, also not when a batch is repeated.
    """

    def partition_count(self, topic: str) -> int:
        """How many partitions the topic has on the cluster (read at start)."""

    async def start(self) -> None:
        """Connect. Raises BrokerUnavailable."""

    def publish(self, outgoing: Outgoing, acked: Acked | None = None) -> None:
        """Hand over and return at once; order per partition is the order of calls. The batch is repeated until the
        broker takes it or `stop`; `acked(None)` is called on this loop after the broker's ack, `acked(error)` when it
        never can be (too large, closed). Batches whatever is waiting; linger 0."""

    async def send(self, outgoing: Outgoing) -> Position:
        """Publish one and wait for the ack. Raises PublishError, or PublishUnknown after `timeout_s`."""

    async def flush(self) -> None:
        """Wait until everything handed over is acknowledged."""

    async def stop(self) -> None:
        """Flush for a bounded time, then close; what is left gets `acked(error)`. Safe to call twice."""


class Tail(Protocol):
    """Reads one assigned partition of a topic from its end, without a group (a gateway's replies, `fleet send`)."""

    async def start(self, topic: str, partition: int) -> None:
        """Assign and seek to the end: every record published after this returns is seen. Raises BrokerUnavailable."""

    async def batch(self) -> Sequence[Record]:
        """The next records, at least one. Waits without limit; raises BrokerUnavailable only when closed; connection
        loss is ridden out inside."""

    async def stop(self) -> None: ...


class Extent(NamedTuple):
    """Where a topic begins and ends, and how far a group has committed it: offsets by partition. `committed`: the next
    offset that the group would read; partitions that it never committed are left out."""

    first: Mapping[int, int]
    end: Mapping[int, int]
    committed: Mapping[int, int]


class Scan(Protocol):
    """Reads a whole topic as it is now, without a group (the operator's commands)."""

    async def extent(self, topic: str, group: str | None = None) -> Extent:
        """Of one topic; both names are bare. The commits are read before the ends. Raises BrokerUnavailable."""

    def read(self, topic: str) -> AsyncIterator[Sequence[Record]]:
        """Every record from the topic's first one to the end that it has when this begins, in offset order by
        partition; then it is over. Raises BrokerUnavailable, also when nothing comes for 10 s."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the cluster has it. `topic_id` is None where the broker tells none."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]
    topic_id: str | None = None


class Admin(Protocol):
    """Topics on the cluster; names are bare, the adapter puts the prefix before them."""

    async def brokers(self) -> int:
        """How many brokers the cluster has now. Raises BrokerUnavailable within 10 s."""

    async def describe(self, names: Sequence[str]) -> Mapping[str, TopicState]:
        """What exists of these. Never creates. Raises BrokerUnavailable within 10 s."""

    async def create(self, topic: TopicState) -> None: ...
    async def alter_config(self, name: str, config: Mapping[str, str]) -> None: ...
    async def add_partitions(self, name: str, total: int) -> None: ...
    async def stop(self) -> None: ...
