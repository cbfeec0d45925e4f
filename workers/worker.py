"""One worker's life: joins the group, hands records on, commits what is settled, drains. Knows no agent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from broker.port import Assignment, GroupConsumer, Publisher, Record
from journal.port import Store, StoreUnavailable
from schemas.limits import Limits
from schemas.settings import SessionSettings, WorkerSettings
from workers.alarms import LOOK_S as ALARMS_S
from workers.alarms import Alarms
from workers.drain import Drain
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
        self.hurried = asyncio.Event()
        self.error: BaseException | None = None
        self.system = ActorSystem(
            parts, worker=name, settings=settings, sessions=sessions, fatal=self.failed, moved=self._moved
        )
        self.alarms = Alarms(self.system)
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

    def stop(self) -> None:
        """Somebody asks it to end: it drains. Asked again, it hands over at once."""
        if self.stopping.is_set():
            self.hurried.set()
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
        self.system.spawn(self._every(ALARMS_S, self.alarms.look), "alarms")

    async def drain(self) -> None:
        """End in order, within the grace period; see `Drain`."""
        self.stopping.set()
        settings = self._settings
        drain = Drain(
            self.system, hurried=self.hurried, soft_s=settings.worker_drain_s, grace_s=settings.worker_grace_s
        )
        await drain.hand_over()
        await drain.flush(self._publisher)
        self._commit()
        await drain.leave(
            group=self._consumer.stop,
            frames=self._publisher.stop,
            directory=self._write_directory,
            entries=self.system.commit.stop,
            tasks=self.system.close,
            store=self._store.stop,
        )
        self.system.turn_log.flush()

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
