"""The cluster's topics against topics.yaml: what differs, what can be altered, when a service must not start.

Knows the `Admin` port only. Never changes the number of partitions of a stream that carries sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from broker.port import Admin, TopicState
from schemas.topics import Topic, Topics

FIX = "run `fleet topics apply`"


class Kind(StrEnum):
    """What about a topic differs."""

    MISSING = "missing"
    PARTITIONS = "partitions"
    REPLICATION = "replication"
    CONFIG = "config"
    NOT_REPORTED = "not_reported"


class TopicsMismatch(Exception):
    """The cluster's topics are not those of topics.yaml; the text is one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference. `remedy` None: nothing is wrong, the broker only does not report it (`NOT_REPORTED`).

    `can_apply`: `apply` will mend it. `fatal`: no service may start on it.
    """

    topic: str
    kind: Kind
    what: str
    wanted: str
    found: str
    can_apply: bool
    remedy: str | None

    @property
    def is_drift(self) -> bool:
        """Whether the cluster is wrong, as far as it tells."""
        return self.kind is not Kind.NOT_REPORTED

    @property
    def is_fatal(self) -> bool:
        """Whether a service must refuse to start: the topic is missing or is cut differently."""
        return self.kind in (Kind.MISSING, Kind.PARTITIONS)

    def __str__(self) -> str:
        said = f"{self.topic}: {self.what} is {self.found}, topics.yaml says {self.wanted}"
        return f"{said}; {self.remedy}" if self.remedy else said


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` did, sentence by sentence, and what it left as it was."""

    done: tuple[str, ...]
    refused: tuple[Difference, ...]


def replicas_for(topic: Topic, brokers: int, setting: int = 0) -> int:
    """Replicas to ask for: the setting, else topics.yaml's wish; at most one per broker."""
    return max(1, min(setting or topic.replication_factor, brokers))


async def sized(admin: Admin, topics: Topics, setting: int = 0) -> list[Topic]:
    """The topics with as many replicas as this cluster can hold (`setting`: FLEET_KAFKA_REPLICATION_FACTOR)."""
    brokers = await admin.brokers()
    return [topic.sized(replicas_for(topic, brokers, setting)) for topic in topics.topics]


async def check(admin: Admin, topics: Topics, setting: int = 0) -> list[Difference]:
    """Every difference between the cluster and topics.yaml; empty: none. Raises BrokerUnavailable."""
    wanted = await sized(admin, topics, setting)
    found = await admin.describe([topic.name for topic in wanted])
    return [difference for topic in wanted for difference in compare(topic, found.get(topic.name))]


async def apply(admin: Admin, topics: Topics, setting: int = 0) -> Applied:
    """Create what is missing, alter what Kafka allows, refuse the rest. Raises BrokerUnavailable."""
    wanted = {topic.name: topic for topic in await sized(admin, topics, setting)}
    differences = [difference for difference in await check(admin, topics, setting) if difference.is_drift]
    done: list[str] = []
    for name in dict.fromkeys(difference.topic for difference in differences if difference.can_apply):
        own = [difference for difference in differences if difference.topic == name and difference.can_apply]
        done.extend(await _mend(admin, wanted[name], own))
    return Applied(tuple(done), tuple(difference for difference in differences if not difference.can_apply))


async def require_topics(admin: Admin, topics: Topics, names: Iterable[str] | None = None) -> None:
    """Return if the topics (all, or these names) exist with the right number of partitions, else TopicsMismatch.

    Other drift does not stop a service; `fleet topics check` shows it. Raises BrokerUnavailable.
    """
    wanted = [topics.named(name) for name in (names if names is not None else topics.names)]
    found = await admin.describe([topic.name for topic in wanted])
    wrong = [entry for topic in wanted for entry in compare(topic, found.get(topic.name)) if entry.is_fatal]
    if not wrong:
        return
    missing = [entry.topic for entry in wrong if entry.kind is Kind.MISSING]
    if missing:
        raise TopicsMismatch(f"the cluster lacks {_listed(missing)}: {FIX}")
    raise TopicsMismatch(str(wrong[0]))


def compare(topic: Topic, state: TopicState | None) -> list[Difference]:
    """What differs about one topic. Pure."""
    if state is None:
        return [Difference(topic.name, Kind.MISSING, "it", "it exists", "missing", can_apply=True, remedy=FIX)]
    return [*_partitions(topic, state), *_replication(topic, state), *_config(topic, state)]


def _partitions(topic: Topic, state: TopicState) -> list[Difference]:
    if state.partitions == topic.partitions:
        return []
    can_grow = not topic.sessions and state.partitions < topic.partitions
    if topic.sessions:
        remedy = (
            "its number of partitions is fixed for its life, because a session lives on the partition that its id "
            "hashes to: set topics.yaml to what the cluster has, or use an empty cluster or another FLEET_TOPIC_PREFIX"
        )
    elif can_grow:
        remedy = FIX
    else:
        remedy = "Kafka cannot take partitions away: set topics.yaml to what the cluster has, or delete the topic"
    wanted, found = str(topic.partitions), str(state.partitions)
    return [Difference(topic.name, Kind.PARTITIONS, "its number of partitions", wanted, found, can_grow, remedy)]


def _replication(topic: Topic, state: TopicState) -> list[Difference]:
    if state.replication_factor == topic.replication_factor:
        return []
    remedy = "move it with Kafka's own `kafka-reassign-partitions.sh`"
    wanted, found = str(topic.replication_factor), str(state.replication_factor)
    return [Difference(topic.name, Kind.REPLICATION, "its replication factor", wanted, found, False, remedy)]


def _config(topic: Topic, state: TopicState) -> list[Difference]:
    differences = []
    for key, wanted in topic.config.items():
        found = state.config.get(key)
        if found is None:
            unknown = Difference(topic.name, Kind.NOT_REPORTED, key, wanted, "not reported by the broker", False, None)
            differences.append(unknown)
        elif found != wanted:
            differences.append(Difference(topic.name, Kind.CONFIG, key, wanted, found, can_apply=True, remedy=FIX))
    return differences


async def _mend(admin: Admin, topic: Topic, differences: Sequence[Difference]) -> list[str]:
    kinds = {difference.kind for difference in differences}
    if Kind.MISSING in kinds:
        await admin.create(TopicState(topic.name, topic.partitions, topic.replication_factor, topic.config))
        return [f"{topic.name}: created with {topic.partitions} partitions, {topic.replication_factor} replicas each"]
    done = []
    if Kind.PARTITIONS in kinds:
        await admin.add_partitions(topic.name, topic.partitions)
        done.append(f"{topic.name}: grown to {topic.partitions} partitions")
    changes = {entry.what: entry.wanted for entry in differences if entry.kind is Kind.CONFIG}
    if changes:
        await admin.alter_config(topic.name, changes)
        done.extend(f"{topic.name}: {key} set to {value}" for key, value in changes.items())
    return done


def _listed(names: Sequence[str]) -> str:
    return f"the topic {names[0]}" if len(names) == 1 else f"the topics {', '.join(names)}"
