"""A consumer group of the cluster in memory: members, generations, commits, eager rebalance. Knows no listener."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from broker.memory_cluster import MemoryCluster


class GroupMember(Protocol):
    """What a group needs of its members."""

    def revoke(self) -> None:
        """The present assignment ends; the last moment to commit."""

    def assign(self, generation: int, partitions: frozenset[int]) -> None:
        """A new assignment."""


class MemoryGroup:
    """One group over co-partitioned topics. Partitions go in ranges to the members, by the order of joining."""

    def __init__(self, cluster: MemoryCluster, topics: Sequence[str]) -> None:
        self.generation = 0
        self.committed: dict[tuple[str, int], int] = {}
        self.members: list[GroupMember] = []
        self._cluster = cluster
        self._topics = tuple(topics)

    def join(self, member: GroupMember) -> None:
        """Add a member (or let one join again): everybody's assignment is revoked and made anew."""
        if member not in self.members:
            self.members.append(member)
        self.rebalance()

    def leave(self, member: GroupMember) -> None:
        """A member goes, or its session has timed out."""
        if member in self.members:
            self.members.remove(member)
            self.rebalance()

    def rebalance(self) -> None:
        """Revoke everywhere, then a new generation, then assign everywhere (each in a step of the loop of its own)."""
        for member in self.members:
            member.revoke()
        self.generation += 1
        loop = asyncio.get_running_loop()
        for index, member in enumerate(self.members):
            loop.call_soon(self._assign, self.generation, member, self._share(index))

    def commit(self, member: GroupMember, generation: int, offsets: Mapping[tuple[str, int], int]) -> bool:
        """Take offsets from a member of this generation; False: it has been replaced."""
        if member not in self.members or generation != self.generation:
            return False
        self.committed.update(offsets)
        return True

    def _assign(self, generation: int, member: GroupMember, partitions: frozenset[int]) -> None:
        if generation == self.generation and member in self.members:
            member.assign(generation, partitions)

    def _share(self, index: int) -> frozenset[int]:
        total = self._cluster.topics[self._topics[0]].partitions
        each, extra = divmod(total, len(self.members))
        start = each * index + min(index, extra)
        return frozenset(range(start, start + each + (1 if index < extra else 0)))


def group_of(cluster: MemoryCluster, name: str, topics: Sequence[str]) -> MemoryGroup:
    """The cluster's group of this name, made on first use."""
    group = cluster.groups.setdefault(name, MemoryGroup(cluster, topics))
    assert isinstance(group, MemoryGroup)
    return group
