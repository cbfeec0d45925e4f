"""A member that is being stopped while the group rebalances: the last commit is made, nothing new begins."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import patch

from broker import kafka_member
from broker.handover import Handover
from broker.kafka_member import KafkaMember
from schemas.settings import KafkaSettings


class Consumer:
    """What a member asks of aiokafka's consumer while it stops."""

    def __init__(self) -> None:
        self.commits = 0

    def assignment(self) -> set[Any]:
        self.commits += 1
        return set()


async def test_a_rebalance_while_it_stops_commits_what_is_left_and_begins_nothing() -> None:
    member = KafkaMember(KafkaSettings(kafka_bootstrap="nowhere:1"), "g", {"turns": "turns"}, _handover())
    consumer = Consumer()
    member._consumer = consumer
    member.hints.begin(1)
    member._generation = 1
    member.hints.add(1, {("turns", 0): 3})
    closing, closed = asyncio.Event(), asyncio.Event()

    async def close(_: Any, _timeout_s: float) -> None:
        closing.set()
        await closed.wait()

    with patch.object(kafka_member, "close_consumer", close):
        stopping = asyncio.create_task(member.stop())
        await closing.wait()
        await member.on_partitions_revoked([])
        member.on_partitions_assigned([])
        await member.stop()
        closed.set()
        await stopping

    assert consumer.commits >= 1
    assert member._announcer is None


def _handover() -> Handover:
    return Handover.__new__(Handover)
