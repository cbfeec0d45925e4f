"""Makes the members of a consumer group join again, by aiokafka's admin client. Only for the embedded broker.

That broker waits for a member that was killed: 10 s at each rebalance, and for good where the dead one was the
group's leader. Whoever knows that a member died can end the wait: everybody is told to leave, the living come back.
"""

from __future__ import annotations

import asyncio

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.group import LeaveGroupRequest

from broker.kafka_connect import client_options, in_time
from schemas.settings import KafkaSettings


async def evict(settings: KafkaSettings, group: str) -> int:
    """Remove every member of `group` (bare name); how many. The living join again at their next heartbeat.

    Raises BrokerUnavailable.
    """
    client = AIOKafkaAdminClient(**client_options(settings, "admin"))
    try:
        await in_time(settings, client.start())
        return await in_time(settings, _evict(client, settings.topic_prefix + group))
    finally:
        await client.close()


async def _evict(client: AIOKafkaAdminClient, group: str) -> int:
    coordinator = await client.find_coordinator(group)
    described = await client.describe_consumer_groups([group], group_coordinator_id=coordinator)
    members = [member[0] for answer in described for found in answer.groups for member in found[5]]
    # At once: one who lives and is told to leave a moment after the dead has already begun to join again, and its
    # leaving takes that join's answer away (it waits for it until the request times out).
    leaves = (client._send_request(LeaveGroupRequest(group, member), coordinator) for member in members)
    await asyncio.gather(*leaves)
    return len(members)
