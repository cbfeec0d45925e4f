"""The actor system of one worker: which sessions are at work or warm, and what they share. Knows no sockets.

Partitions come and go with the consumer group; a session lives in the partition that its id hashes to.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from broker.port import GroupConsumer
from journal.commit import GroupCommit
from journal.loading import Loading
from journal.port import Listed, Store
from journal.state import State
from schemas.codes import Code
from schemas.errors import Refusal
from schemas.ids import split_key
from schemas.limits import Limits
from schemas.receipt import Receipt
from schemas.settings import SessionSettings, WorkerSettings
from workers.actor import Actor
from workers.builder import Builder
from workers.effects import Trigger
from workers.emitter import CallLater
from workers.executor import Executor
from workers.gate import Gate
from workers.holdings import Rules, Terms
from workers.ledger.prices import KINDS, NANOS, counts
from workers.logs import TurnLog
from workers.metrics import WorkerMetrics
from workers.outbox import Outbox
from workers.partition import TURNS, Partition
from workers.pool import SessionPool
from workers.registry import Registry
from workers.slots import Slots
from workers.snapshots import SnapshotWriter

_log = logging.getLogger("fleet.worker")
_STRETCH = 500_000  # some 70 MB in mind; 300 s of a turn, the default deadline, at 1,600 others a second


@dataclass(slots=True)
class Parts:
    """What the composition root brings: adapters, the triad, clocks."""

    store: Store
    consumer: GroupConsumer
    outbox: Outbox
    registry: Registry
    builder: Builder
    executor: Executor
    turn_log: TurnLog
    clock_ms: Callable[[], int]
    clock_s: Callable[[], float]
    call_later: CallLater


class ActorSystem:
    """See the module. `worker`: this process's name, new with every start; `fatal`: told of errors that do not pass;
    `moved`: of a partition whose watermark may have moved."""

    relist_ms = 30_000

    def __init__(
        self,
        parts: Parts,
        *,
        worker: str,
        settings: WorkerSettings,
        sessions: SessionSettings,
        fatal: Callable[[BaseException], None],
        moved: Callable[[Partition], None],
    ) -> None:
        self.worker = worker
        self.store = parts.store
        self.consumer = parts.consumer
        self.outbox = parts.outbox
        self.registry = parts.registry
        self.builder = parts.builder
        self.executor = parts.executor
        self.turn_log = parts.turn_log
        self.clock_ms = parts.clock_ms
        self.clock_s = parts.clock_s
        self.call_later = parts.call_later
        self.delta_ms = settings.worker_delta_ms
        self.snapshot_bytes = settings.worker_snapshot_bytes
        self.metrics = WorkerMetrics(self._gauges)
        self.slots = Slots(settings.worker_slots)
        self.leaving = False  # turns are handed over from now on
        self.handed_over = 0
        models = parts.executor.services.models
        parts.executor.services.bank.count = lambda scope: self.metrics.count("budget_refusals", scope)
        self.gate: Gate | None = None
        if models is not None:
            self.gate = Gate(models, parts.registry, self.slots, self.metrics, clock_ms=parts.clock_ms)
        self.commit = GroupCommit(parts.store.journal, sizes=self.metrics.bulk.observe)
        self.snapshots = SnapshotWriter(
            parts.store.snapshots, spawn=self.spawn, count=lambda written: self.metrics.count("snapshots", by=written)
        )
        self.loading = Loading(parts.store, self.spawn)
        self.pool: SessionPool[Actor] = SessionPool(
            settings.worker_pool_bytes, settings.worker_pool_idle_s, clock_s=parts.clock_s
        )
        self.rules = Rules(
            worker,
            settings.worker_tries,
            self._terms,
            quarantine_ms=sessions.session_quarantine_s * 1_000,
            version=self._version,
            prices=parts.executor.services.prices,
        )
        self.partitions: dict[int, Partition] = {}
        self.waiting = 0
        self.short_of_memory = False
        self.memory_bytes = 0
        self.listed: dict[str, Listed] = {}
        self.keep_keys_s = sessions.session_keep_keys_s
        self._idle_ms = sessions.session_idle_s * 1_000
        self.session_mailbox = settings.worker_session_mailbox
        self.limits = Limits(content_bytes=sessions.content_bytes)
        self.backlog = self.backlog_bytes = 0
        self._mailbox, self._backlog_bytes = settings.worker_mailbox, settings.worker_backlog_bytes
        self._nonces = itertools.count()
        self._incarnation = secrets.token_hex(6)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._fatal = fatal
        self._moved = moved
        self._terms_of: dict[str | None, Terms] = {}

    # ---- sessions

    def actor(self, key: str, partition: Partition) -> Actor:
        """The session at work, or warm, or new."""
        actor = partition.actors.get(key)
        if actor is not None:
            return actor
        actor = self.pool.get(key)
        if actor is None or actor.dead or actor.partition is not partition:
            actor = Actor(key, partition, self)
            self.pool.put(key, actor, actor.weight)
        self.pool.pin(key)
        partition.actors[key] = actor
        return actor

    def rest(self, actor: Actor) -> None:
        """The session has nothing to do: it stays warm as long as the pool has room."""
        if actor.partition.actors.get(actor.key) is actor:  # a late answer may come to one that left the pool long ago
            del actor.partition.actors[actor.key]
            self.pool.unpin(actor.key)
            self.pool.put(actor.key, actor, actor.weight)

    def _terms(self, name: str | None) -> Terms:
        terms = self._terms_of.get(name)
        if terms is None:
            spec = self.registry.get(name)
            idle_ms = self._idle_ms if spec.session_idle_s is None else spec.session_idle_s * 1_000
            terms = self._terms_of[name] = Terms(
                spec.name,
                spec.version,
                idle_ms,
                spec.on_expired == "fresh",
                spec.on_poison == "wait",
                spec.on_suspended == "first",
            )
        return terms

    def _version(self, agent: str, key: str) -> str:
        return self.registry.version(agent, *split_key(key))

    # ---- partitions

    def own(self, number: int, generation: int, offsets: dict[str, int]) -> None:
        """A partition is ours in this assignment: a new one, or one that we keep."""
        partition = self.partitions.get(number)
        if partition is None:
            self.partitions[number] = Partition(number, generation, offsets, self._marked)
        else:
            partition.renew(generation, offsets)

    def disown(self, number: int, *, release: bool = True) -> None:
        """A partition is somebody else's: its sessions are abandoned, warm ones forgotten."""
        partition = self.partitions.pop(number, None)
        if partition is None:
            return
        partition.owned = False
        for actor in list(partition.actors.values()):
            actor.lost(release)
            self.slots.give_back(actor.key)
            self.pool.drop(actor.key)
        partition.actors.clear()
        self.pool.drop_where(lambda key: self._warm_in(key, partition))
        self.waiting -= partition.waiting
        partition.waiting = 0

    def _warm_in(self, key: str, partition: Partition) -> bool:
        actor = self.pool.peek(key)
        return actor is not None and actor.partition is partition

    async def prove(self, partition: Partition) -> bool:
        """Whether we are still a member that owns this partition; if not it is given up and we join again."""
        if not partition.owned:
            return False
        if await self.consumer.prove(partition.generation, partition.number):
            return partition.owned
        if partition.owned:
            _log.warning("membership not proved: partition %d is given up", partition.number)
            self.metrics.count("given_up")
            self.disown(partition.number, release=False)
            self.spawn(self.consumer.rejoin(), "rejoin")
        return False

    def waiting_changed(self, partition: Partition, by: int) -> None:
        """Mailboxes fill or empty."""
        partition.waiting += by
        self.waiting += by
        if by > 0 or partition.paused:  # where less waits, nothing is to be paused
            self._weigh(partition)

    def backlog_changed(self, partition: Partition, by: int, bytes_: int) -> None:
        """Turns are put behind a full mailbox, or taken from there."""
        partition.backlog += by
        self.backlog += by
        partition.backlog_bytes += bytes_
        self.backlog_bytes += bytes_
        self._weigh(partition)

    def _marked(self, partition: Partition) -> None:
        if partition.paused:
            self._weigh(partition)
        self._moved(partition)

    def _weigh(self, partition: Partition) -> None:
        """Pause a partition that is over its share, resume it well below. Its backlog may be over as long as the worker
        has room for it."""
        owned = len(self.partitions) or 1
        share, room = self._mailbox // owned or 1, self._backlog_bytes
        aside = min(self.backlog_bytes, partition.backlog_bytes * owned)
        if partition.paused:
            if partition.waiting > share // 2 or aside > room // 2 or partition.stretched > _STRETCH // 2:
                return
        elif partition.waiting < share and aside <= room and partition.stretched < _STRETCH:
            return
        partition.paused = not partition.paused
        self.apply_pauses()

    def apply_pauses(self) -> None:
        """Tell the consumer which partitions of turns are paused, also of those that are new; control never is."""
        self.consumer.pause(TURNS, frozenset(n for n, p in self.partitions.items() if p.paused or self.shut))

    @property
    def shut(self) -> bool:
        """No turns are read of any partition: the worker drains, or is short of memory."""
        return self.slots.closed or self.short_of_memory

    def mark(self, trigger: Trigger) -> None:
        """The work that this record asked for is settled."""
        trigger.mark(trigger.record.offset)

    # ---- odds and ends that actors share

    def nonce(self) -> str:
        """Unique for every append."""
        return f"{self._incarnation}-{next(self._nonces)}"

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Run a named task; an error that nobody expected ends the worker."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.critical("task %s failed", task.get_name(), exc_info=error)
            self._fatal(error)

    def refuse_turn(self, trigger: Trigger, code: Code, text: str) -> None:
        """A record that may not become a turn: a dead letter and a `refused` frame, then its mark."""
        self.metrics.count("refused", code.value)
        record = trigger.record
        self.outbox.refuse(record, TURNS, code, text, lambda: self.mark(trigger), self.clock_ms())

    def count_models(self, receipt: Receipt, began_ms: int) -> None:
        """Model calls, tokens and money of a finished turn."""
        self.metrics.count("model_calls", by=receipt.model_calls)
        self.metrics.count("model_retries", by=receipt.retries)
        prices = self.rules.prices
        for usage in receipt.usage:
            cost = prices.cost(usage, began_ms)
            for place, (kind, tokens) in enumerate(zip(KINDS, counts(usage), strict=True)):
                self.metrics.count("tokens", (usage.model, kind), tokens)
                if cost is not None:
                    self.metrics.count("money", (usage.model, kind, prices.currency), cost[place] / NANOS)
            if cost is None:
                self.metrics.count("unpriced", usage.model)

    def list_session(self, key: str, state: State) -> None:
        """Have the directory told soon."""
        tenant, session = split_key(key)
        opened = state.opened
        self.listed[key] = Listed(
            s=key,
            tenant=tenant,
            session=session,
            user=opened.user if opened else "",
            agent=opened.agent if opened else "",
            agent_version=opened.agent_version if opened else "",
            turns=state.turns,
            version=state.version,
            created_ms=opened.at_ms if opened else state.last_ms,
            last_ms=state.last_ms,
            expires_ms=state.last_ms + (self._idle_of(opened.agent) if opened else 0),
            closed_ms=None if opened else state.last_ms,
        )

    def _idle_of(self, agent: str) -> int:
        try:
            return self._terms(agent).idle_ms
        except Refusal:
            return self._idle_ms

    async def close(self) -> None:
        """End what still runs in the background: everything that counts is written, or the next owner's."""
        await self.executor.services.bank.settled()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5.0)

    def _gauges(self) -> dict[str, float]:
        return {
            "in_flight": self.slots.count - self.slots.free,
            "waiting": self.waiting,
            "slots_free": self.slots.free,
            "partitions": len(self.partitions),
            "paused": sum(p.paused for p in self.partitions.values()),
            "backlog": self.backlog,
            "backlog_bytes": self.backlog_bytes,
            "memory_bytes": self.memory_bytes,
            "memory_short": self.short_of_memory,
            "lag": self.lag,
            "pool_sessions": len(self.pool),
            "pool_bytes": self.pool.bytes,
            **(self.gate.gauges() if self.gate is not None else {}),
        }

    lag: float = 0.0
