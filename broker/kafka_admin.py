"""Topics on a real cluster, by aiokafka's admin client. Does what it is told; what is right is in `broker.topics`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoError, TopicAlreadyExistsError, for_code

from broker.kafka_connect import client_options, in_time
from broker.kafka_wire import METADATA_KEY, METADATA_VERSION, SetTopicConfig, TopicIds
from broker.port import BrokerUnavailable, TopicState
from schemas.settings import KafkaSettings

T = TypeVar("T")
VISIBLE_POLLS, VISIBLE_PAUSE_S = 50, 0.1


class KafkaAdmin:
    """The Admin port on Apache Kafka. Connects on first use; every call ends within 10 s."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: Any = None

    async def brokers(self) -> int:
        """How many brokers the cluster has now. Raises BrokerUnavailable."""
        cluster = await self._call(lambda client: client.describe_cluster())
        return len(cluster["brokers"])

    async def describe(self, names: Sequence[str]) -> Mapping[str, TopicState]:
        """What exists of these, by bare name. Never creates. Raises BrokerUnavailable."""
        bare = {self._settings.topic_prefix + name: name for name in names}
        topics = await self._call(lambda client: _metadata(client, bare))
        configs = await self._call(lambda client: _configs(client, [topic["topic"] for topic in topics]))
        return {bare[topic["topic"]]: _state(bare[topic["topic"]], topic, configs) for topic in topics}

    async def create(self, topic: TopicState) -> None:
        """Create a topic and wait until it is visible; one that is there already is left as it is.

        Raises BrokerUnavailable, also when the broker refuses; the text says why.
        """
        name = self._settings.topic_prefix + topic.name
        new = NewTopic(name, topic.partitions, topic.replication_factor, topic_configs=dict(topic.config))
        response = await self._call(lambda client: client.create_topics([new]))
        for _, code, message in response.topic_errors:
            _require(for_code(code) in (NoError, TopicAlreadyExistsError), f"to create {name}", code, message)
            if code == 0:
                await self._visible(topic.name, topic.partitions)

    async def alter_config(self, name: str, config: Mapping[str, str]) -> None:
        """Set these keys and leave the others alone. Raises BrokerUnavailable, also when the broker refuses."""
        request = SetTopicConfig(self._settings.topic_prefix + name, config)
        response = await self._call(lambda client: client._client.send(client._client.get_random_node(), request))
        for code, message, _, full in response.resources:
            _require(code == 0, f"to set {dict(config)} of {full}", code, message)

    async def add_partitions(self, name: str, total: int) -> None:
        """Grow a topic to `total` partitions and wait until that is visible. Raises BrokerUnavailable."""
        wanted = {self._settings.topic_prefix + name: NewPartitions(total)}
        await self._call(lambda client: client.create_partitions(wanted))
        await self._visible(name, total)

    async def stop(self) -> None:
        """Close the connection. Safe to call twice."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _visible(self, name: str, partitions: int) -> None:
        """Brokers learn of a new topic a moment after the controller took it."""
        for _ in range(VISIBLE_POLLS):
            state = (await self.describe([name])).get(name)
            if state is not None and state.partitions >= partitions:
                return
            await asyncio.sleep(VISIBLE_PAUSE_S)

    async def _call(self, request: Callable[[Any], Awaitable[T]]) -> T:
        client = await self._connected()
        return await in_time(self._settings, request(client))

    async def _connected(self) -> Any:
        if self._client is None:
            client = AIOKafkaAdminClient(**client_options(self._settings, "admin"))
            try:
                await in_time(self._settings, client.start())
            except BaseException:
                await client.close()
                raise
            self._client = client
        return self._client


def _require(fine: bool, what: str, code: int, message: str | None) -> None:
    if not fine:
        raise BrokerUnavailable(f"the broker refused {what}: {message or for_code(code).__name__}")


async def _metadata(client: Any, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Topics that exist, with ids where the broker tells them; asking never creates one."""
    kafka = client._client
    node = kafka.get_random_node()
    await kafka.ready(node)
    versions: Mapping[int, tuple[int, int]] = (await kafka._get_conn(node))._versions
    if versions.get(METADATA_KEY, (0, 0))[1] >= METADATA_VERSION:
        topics = (await kafka.send(node, TopicIds(list(names)))).to_object()["topics"]
    else:  # listing everything creates nothing either, but has no ids
        topics = await client.describe_topics()
    return [topic for topic in topics if topic["topic"] in names and topic["error_code"] == 0]


async def _configs(client: Any, names: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    """What the broker reports of each topic's config; nothing where it reports none."""
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: dict[str, Mapping[str, str]] = {}
    for response in await client.describe_configs(resources):
        for code, _, _, name, entries in response.resources:
            if code == 0:
                found[name] = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
    return found


def _state(name: str, topic: Mapping[str, Any], configs: Mapping[str, Mapping[str, str]]) -> TopicState:
    partitions = topic["partitions"]
    replicas = min((len(partition["replicas"]) for partition in partitions), default=0)
    known = topic.get("topic_id")
    identity = str(known) if known and known.int else None
    return TopicState(name, len(partitions), replicas, configs.get(topic["topic"], {}), identity)
