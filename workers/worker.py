"""One worker's life: joins the group, hands records on, commits what is settled, drains. Knows no agent.

Drain, in order: (1) no new turns, keep polling paused; (2) running turns may end for `worker_drain_s`; (3) what still
runs is released; (4) entries and frames are flushed; (5) offsets are committed; (6) the group is left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from broker.port import Assignment, GroupConsumer, Publisher, Record
from journal.port import Store, StoreUnavailable
from schemas.limits import Limits
from schemas.settings import SessionSettings, WorkerSettings
from workers.intake import Intake
from workers.memory import LOOK_S, MemoryBudget
from workers.partition import CONTROL, TURNS, Partition
from workers.sweep import Sweep
from workers.system import ActorSystem, Parts

_log = logging.getLogger("fleet.worker")
_COMMIT_S = 0.05
_LIST_S = 1.0
_LOOK_S = 1.0


class Worker:
    """Implements the broker's `Listener`. `name`: new with every start of the process."""

    def __init__(
        self, parts: Parts, publisher: Publisher, *, name: str, settings: WorkerSettings, sessions: SessionSettings
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._publisher = publisher
        self._consumer: GroupConsumer = parts.consumer
        self._store: Store = parts.store
        self._call_later = parts.call_later
        self.stopping = asyncio.Event()
        self.error: BaseException | None = None
        self.system = ActorSystem(
            parts, worker=name, settings=settings, sessions=sessions, fatal=self.failed, moved=self._moved
        )
        self.memory = MemoryBudget(self.system, settings.worker_memory_mib, self.failed)
        self._sweep = Sweep(parts.store, publisher, sessions, clock_ms=parts.clock_ms)
        self._intake: Intake | None = None
        self._generation = -1
        self._dirty: set[Partition] = set()
        self.assigned_once = False
        self.writable = True

    # ---- Listener

    def assigned(self, assignment: Assignment) -> None:
        """A new assignment: lost partitions are dropped, kept ones go on undisturbed under new watermarks."""
        system = self.system
        self._generation = assignment.generation
        system.metrics.count("rebalances")
        self._dirty.clear()
        for number in [n for n in system.partitions if n not in assignment.partitions]:
            system.disown(number)
        for number in sorted(assignment.partitions):
            offsets = {stream: assignment.offsets.get((stream, number), 0) for stream in (TURNS, CONTROL)}
            system.own(number, assignment.generation, offsets)
        system.apply_pauses()
        self.assigned_once = True
        _log.info("partitions assigned", extra={"partitions": sorted(assignment.partitions)})

    def received(self, generation: int, records: Sequence[Record]) -> None:
        """Records of the current assignment."""
        if self._intake is not None:
            self._intake.received(generation, records)
            self.memory.received()

    def failed(self, error: BaseException) -> None:
        """Something that does not pass: drain and end, the supervisor starts a new one."""
        self.error = self.error or error
        self.stopping.set()

    # ---- life

    async def start(self) -> None:
        """Join the group. Raises BrokerUnavailable."""
        self._intake = Intake(
            self.system,
            partitions=self._publisher.partition_count(TURNS),
            timeout_ms=int(self._sessions.turn_timeout_s * 1_000),
            limits=Limits(content_bytes=self._sessions.content_bytes),
        )
        await self._consumer.start(self)
        self.system.spawn(self.system.commit.broken(), "group commit")
        self.system.spawn(self._sweep.run(self.stopping), "sweep")
        self.system.spawn(self._every(_LIST_S, self._write_directory), "directory")
        self.system.spawn(self._every(_LOOK_S, self._look_around), "look around")
        self.system.spawn(self._every(LOOK_S, self.memory.look), "memory")

    async def drain(self) -> None:
        """End in order; see the module."""
        self.stopping.set()
        system = self.system
        system.slots.close()
        system.apply_pauses()
        try:
            async with asyncio.timeout(self._settings.worker_drain_s):
                await system.slots.all_free()
        except TimeoutError:
            _log.warning("%d turns still run: they are handed over", system.slots.count - system.slots.free)
        for number in list(system.partitions):
            self._hand_over(system.partitions[number])
        await self._flush()
        self._commit()
        await self._consumer.stop()
        await self._publisher.stop()
        await self._write_directory()
        await system.commit.stop()
        await system.close()
        await self._store.stop()
        system.turn_log.flush()

    def _hand_over(self, partition: Partition) -> None:
        for actor in list(partition.actors.values()):
            if actor.session.running is not None:
                actor.lost(True)

    async def _flush(self) -> None:
        """Entries first, then the frames that follow from them."""
        try:
            async with asyncio.timeout(10.0):
                await self.system.commit.drain()
                self.system.outbox.flush()
                await self._publisher.flush()
        except TimeoutError:
            _log.warning("the store or the broker does not answer: the next owner publishes what is missing")

    # ---- commits

    def _moved(self, partition: Partition) -> None:
        """A watermark may have moved: commit soon. The commit is a hint; the journal is the truth."""
        if not self._dirty:
            self._call_later(_COMMIT_S, self._commit)
        self._dirty.add(partition)

    def _commit(self) -> None:
        offsets: dict[tuple[str, int], int] = {}
        for partition in self._dirty:
            if partition.owned and partition.generation == self._generation:
                offsets.update(partition.positions())
        self._dirty.clear()
        if offsets:
            self._consumer.commit(self._generation, offsets)

    # ---- now and then

    async def _every(self, pause_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while not self.stopping.is_set():
            await work()
            try:
                await asyncio.wait_for(self.stopping.wait(), pause_s)
            except TimeoutError:
                continue

    async def _write_directory(self) -> None:
        listed, self.system.listed = self.system.listed, {}
        if listed:
            try:
                await self._store.directory.put(list(listed.values()))
            except StoreUnavailable:
                self.system.listed = {**listed, **self.system.listed}

    async def _look_around(self) -> None:
        self.system.lag = float(sum((await self._consumer.lag()).values()))
        self.system.pool.evict()
        self.system.metrics.settle()
        if self.system.slots.held:  # some may be out of time
            self.system.slots.offer(gated=self.system.slots.gated)
        try:
            self.writable = await self._store.ping()
        except StoreUnavailable:
            self.writable = False
