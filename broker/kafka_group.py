"""Takes members out of a consumer group, by aiokafka's admin client. Knows nothing of what they read.

A broker waits for a member that was killed: Apache Kafka until its session times out, also at a rebalance that another
one has begun; the embedded one 10 s at each rebalance, and for good where the dead one was the group's leader. Whoever
knows that a member died can end the wait.
"""

from __future__ import annotations

import asyncio

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.group import LeaveGroupRequest

from broker.kafka_connect import client_options, in_time
from schemas.settings import KafkaSettings


async def evict(settings: KafkaSettings, group: str) -> int:
    """Remove every member of `group` (bare name); how many. The living join again at their next heartbeat. Only for the
    embedded broker. Raises BrokerUnavailable.
    """
    return await _removed(settings, group, None)


async def bury(settings: KafkaSettings, group: str, client_id: str) -> int:
    """Remove the members of `group` (bare name) that have this client id; how many. Raises BrokerUnavailable."""
    return await _removed(settings, group, client_id)


async def _removed(settings: KafkaSettings, group: str, client_id: str | None) -> int:
    client = AIOKafkaAdminClient(**client_options(settings, "admin"))
    try:
        await in_time(settings, client.start())
        return await in_time(settings, _evict(client, settings.topic_prefix + group, client_id))
    finally:
        await client.close()


async def _evict(client: AIOKafkaAdminClient, group: str, client_id: str | None = None) -> int:
    coordinator = await client.find_coordinator(group)
    described = await client.describe_consumer_groups([group], group_coordinator_id=coordinator)
    known = [(member[0], member[1]) for answer in described for found in answer.groups for member in found[5]]
    members = [member for member, its_id in known if client_id in (None, its_id)]
    # At once: one who lives and is told to leave a moment after the dead has already begun to join again, and its
    # leaving takes that join's answer away (it waits for it until the request times out).
    leaves = (client._send_request(LeaveGroupRequest(group, member), coordinator) for member in members)
    await asyncio.gather(*leaves)
    return len(members)
