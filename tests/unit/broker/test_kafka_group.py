"""Everybody is told to leave a group at once. A stand-in for the client."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from broker.kafka_group import _evict


class Client:
    """Answers no leave before every member's has been sent."""

    def __init__(self, members: list[str]) -> None:
        self._members = members
        self._all = asyncio.Event()
        self.left: list[str] = []

    async def find_coordinator(self, group: str) -> int:
        return 1

    async def describe_consumer_groups(self, groups: list[str], **_: Any) -> list[Any]:
        found = (0, groups[0], "Stable", "consumer", "range", [(member, member[:4], "") for member in self._members])
        return [SimpleNamespace(groups=[found])]

    async def _send_request(self, request: Any, node: int) -> None:
        self.left.append(request._member_id)
        if len(self.left) == len(self._members):
            self._all.set()
        await self._all.wait()


async def test_no_leave_waits_for_the_answer_to_another() -> None:
    client: Any = Client(["dead", "living"])
    async with asyncio.timeout(1):
        assert await _evict(client, "workers") == 2
    assert client.left == ["dead", "living"]


async def test_a_group_without_members_is_left_alone() -> None:
    client: Any = Client([])
    assert await _evict(client, "workers") == 0


async def test_only_members_of_that_client_are_taken_out() -> None:
    client: Any = Client(["me-1-a", "me-2-b"])
    client._members, waiting = ["me-1-a"], client._members
    client.describe_consumer_groups = lambda groups, **_: described(waiting)
    async with asyncio.timeout(1):
        assert await _evict(client, "workers", "me-1") == 1
    assert client.left == ["me-1-a"]


async def described(members: list[str]) -> list[Any]:
    return [SimpleNamespace(groups=[(0, "workers", "Stable", "consumer", "range", [(m, m[:4], "") for m in members])])]
