"""The GroupConsumer port in memory, on the caller's loop. Its members can be silenced, as a frozen process would be."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from broker.hints import Hints
from broker.memory_cluster import MemoryCluster
from broker.memory_group import MemoryGroup, group_of
from broker.port import Assignment, BrokerUnavailable, Listener, Record

POLL_RECORDS = 500
COMMIT_EVERY_S = 0.1
PROVE_TIMEOUT_S = 10.0
SESSION_TIMEOUT_S = 10.0


class MemoryGroupConsumer:
    """A member of a group of a MemoryCluster. Differs from Kafka's: a rebalance takes no time.

    `silence()` stops its heartbeats, polls and commits; after `session_timeout_s` the group drops it. `wake()` ends
    that: a member that was dropped meanwhile joins again.
    """

    def __init__(
        self,
        cluster: MemoryCluster,
        group: str,
        topics: Sequence[str],
        *,
        session_timeout_s: float = SESSION_TIMEOUT_S,
    ) -> None:
        self._cluster = cluster
        self._topics = tuple(topics)
        self._group_name = group
        self._session_timeout_s = session_timeout_s
        self._listener: Listener | None = None
        self._generation = 0
        self._group_generation = -1
        self._partitions: frozenset[int] = frozenset()
        self._next: dict[tuple[str, int], int] = {}
        self._paused: dict[str, frozenset[int]] = {}
        self._hints = Hints()
        self._polling: asyncio.Handle | None = None
        self._committing: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._awake = asyncio.Event()

    def name(self, topic: str) -> str:
        """Prefix and bare name."""
        return self._cluster.prefix + topic

    async def start(self, listener: Listener) -> None:
        """Join. Raises BrokerUnavailable: the cluster is down, lacks a topic, or cuts the topics differently."""
        counts = {self._cluster.require_topic(topic).partitions for topic in self._topics}
        if len(counts) > 1:
            raise BrokerUnavailable("streams that belong together are cut differently: see topics.yaml")
        self._listener = listener
        self._awake.set()
        for topic in self._topics:
            for partition in range(self._cluster.topics[topic].partitions):
                self._cluster.log(topic, partition).watchers.append(self._poll_soon)
        self._group.join(self)
        self._commit_later()

    def pause(self, topic: str, partitions: frozenset[int]) -> None:
        """Exactly these partitions of `topic` are paused from now on."""
        self._paused[topic] = partitions
        self._poll_soon()

    def commit(self, generation: int, offsets: Mapping[tuple[str, int], int]) -> None:
        """A hint; see the port."""
        self._hints.add(generation, offsets)

    async def prove(self, generation: int, partition: int) -> bool:
        """Whether the group still knows this member. While it is silent: waits up to 10 s, then False."""
        if not self._live:
            try:
                async with asyncio.timeout(PROVE_TIMEOUT_S):
                    await self._awake.wait()
            except TimeoutError:
                return False
        await asyncio.sleep(0)
        if not self._live or generation != self._generation or partition not in self._partitions:
            return False
        return self._group.commit(self, self._group_generation, {})

    async def rejoin(self) -> None:
        """Join again; `assigned` follows."""
        if self._live:
            self._group.join(self)

    async def lag(self) -> Mapping[tuple[str, int], int]:
        """Records not yet read by (bare topic, partition)."""
        return {place: self._cluster.log(*place).end - following for place, following in self._next.items()}

    async def stop(self) -> None:
        """Commit what was hinted and leave. A silent member cannot: its session times out. Safe to call twice."""
        if self._listener is None:
            return
        if self._live:
            self._commit_hints()
            self._forget()
            self._group.leave(self)
        self._listener = None
        self._forget()
        if self._committing is not None:
            self._committing.cancel()
        for topic in self._topics:
            for partition in range(self._cluster.topics[topic].partitions):
                self._cluster.log(topic, partition).watchers.remove(self._poll_soon)

    def silence(self) -> None:
        """From now on the group hears nothing of this member, nor the member of the group. Safe to call twice."""
        if not self._awake.is_set():
            return
        self._awake.clear()
        self._expiry = asyncio.get_running_loop().call_later(self._session_timeout_s, self._group.leave, self)

    def wake(self) -> None:
        """The member is heard again; if it was dropped or left behind a rebalance, it joins again."""
        self._awake.set()
        if self._expiry is not None:
            self._expiry.cancel()
        if self not in self._group.members or self._group_generation != self._group.generation:
            self._forget()
            self._group.join(self)
        self._poll_soon()

    def revoke(self) -> None:
        """Called by the group before each rebalance."""
        if self._live:
            self._commit_hints()
            self._forget()

    def assign(self, generation: int, partitions: frozenset[int]) -> None:
        """Called by the group after each rebalance; a silent member does not hear it."""
        if not self._live or self._listener is None:
            return
        self._generation += 1
        self._group_generation = generation
        self._partitions = partitions
        places = [(topic, partition) for topic in self._topics for partition in sorted(partitions)]
        self._next = {place: self._start_of(place) for place in places}
        self._hints.begin(self._generation)
        self._listener.assigned(Assignment(self._generation, partitions, dict(self._next)))
        self._poll_soon()

    def _start_of(self, place: tuple[str, int]) -> int:
        """A commit beyond the end is one of a topic that was deleted and created anew."""
        log = self._cluster.log(*place)
        committed = self._group.committed.get(place, log.start)
        return committed if committed <= log.end else log.start

    @property
    def _live(self) -> bool:
        return self._awake.is_set() and self._listener is not None and not self._cluster.down

    @property
    def _group(self) -> MemoryGroup:
        return group_of(self._cluster, self._group_name, self._topics)

    def _forget(self) -> None:
        self._partitions, self._next = frozenset(), {}
        self._hints.begin(0)
        if self._polling is not None:
            self._polling.cancel()
            self._polling = None

    def _poll_soon(self) -> None:
        if self._polling is None and self._live and self._next:
            self._polling = asyncio.get_running_loop().call_soon(self._poll)

    def _poll(self) -> None:
        self._polling = None
        if not self._live or self._listener is None:
            return
        records: list[Record] = []
        for place, following in self._next.items():
            room = POLL_RECORDS - len(records)
            if room and place[1] not in self._paused.get(place[0], frozenset()):
                found = self._cluster.log(*place).read(following, room)
                if found:
                    records.extend(found)
                    self._next[place] = found[-1].offset + 1
        if records:
            self._listener.received(self._generation, records)
            self._poll_soon()

    def _commit_later(self) -> None:
        self._committing = asyncio.get_running_loop().call_later(COMMIT_EVERY_S, self._commit_often)

    def _commit_often(self) -> None:
        if self._live:
            self._commit_hints()
        if self._listener is not None:
            self._commit_later()

    def _commit_hints(self) -> None:
        hints = {place: offset for place, offset in self._hints.take().items() if place[1] in self._partitions}
        if hints:
            self._group.commit(self, self._group_generation, hints)
