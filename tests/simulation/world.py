"""One run: workers as processes on the twins, a plan that is sent, faults that come, then calm. Checks nothing."""

from __future__ import annotations

import asyncio
import io
import itertools
import random
from collections.abc import Callable
from typing import Any

import orjson

from broker.memory import MemoryAdmin, MemoryGroupConsumer, Verdict
from broker.partition import partition_of
from broker.port import BrokerUnavailable, Outgoing, TopicState
from journal.memory import MemoryStore
from journal.memory_parts import MemoryTimers
from journal.port import Store, StoreUnavailable
from schemas.settings import ModelSettings, SessionSettings, WorkerSettings
from tests.simulation.agents import Asks, Forks, Pays, Steps, Yields, answers, spec_of
from tests.simulation.faulty import FaultyConsumer, FaultyJournal, FaultyPublisher, FaultyStore, gate_of
from tests.simulation.ledger import CONTROL, TURNS, Ledger, WatchedCluster, WatchedGroup, WatchedJournal
from tests.simulation.lobby import Lobby
from tests.simulation.operators import Operators
from tests.simulation.plan import TENANT, Plan, Sent
from tests.simulation.strangers import named
from tests.simulation.virtual import EMPTY, Process, VirtualLoop
from tests.simulation.weather import KILL_AFTER_PUBLISH, PUBLISH_DOUBLED, PUBLISH_LOST, Weather
from workers.builder import Builder
from workers.executor import Executor
from workers.logs import TurnLog
from workers.models.retry import ModelCaller
from workers.models.scripted import ScriptedModel
from workers.outbox import Outbox
from workers.recreated import wake_what_lost_its_record
from workers.registry import Registry
from workers.services import Services
from workers.system import Parts
from workers.worker import Worker

EPOCH_MS = 1_790_000_000_000
PARTITIONS = 3
SESSION_TIMEOUT_S = 1.5
SETTLE_S = 400.0
QUARANTINE_S = 8
TOPICS = {TURNS: PARTITIONS, CONTROL: PARTITIONS, "agent.replies": 2, "agent.usage": 1, "agent.dead-letters": 1}


class Member:
    """A worker and its process. `skew_ms`: what its wall clock is off by."""

    def __init__(self, process: Process, consumer: FaultyConsumer) -> None:
        self.process = process
        self.consumer = consumer
        self.skew_ms = 0
        self.leaving = False
        self.worker: Worker | None = None

    @property
    def fit(self) -> bool:
        return not (self.process.dead or self.process.frozen or self.leaving)


class World:
    """See the module."""

    def __init__(self, seed: int, plan: Plan, loop: VirtualLoop) -> None:
        self.loop = loop
        self.plan = plan
        self.chances = random.Random(f"world {seed}")
        self.weather = Weather(seed)
        self.ledger = Ledger(loop.time)
        self.cluster = WatchedCluster(clock_ms=lambda: self.clock_ms(0))
        self.cluster.ledger = self.ledger
        self.cluster.judge = self.judge
        for name, partitions in TOPICS.items():
            self.cluster.make(TopicState(name, partitions, 1, {}))
        self.group = WatchedGroup(self.cluster, (TURNS, CONTROL))
        self.group.ledger = self.ledger
        self.cluster.groups["workers"] = self.group
        loop.adopt(self.group, EMPTY)
        self.store = MemoryStore(gate_of(self.weather))
        self.journal = WatchedJournal(gate_of(self.weather))
        self.journal.ledger = self.ledger
        self.store.log, self.store.journal, self.store.payloads = self.journal, self.journal, self.journal.payloads
        self.store.survey = self.store.survey_of(self.journal)
        self.members: list[Member] = []
        self._names = itertools.count(1)
        self.settings = WorkerSettings(
            worker_slots=self.chances.choice((2, 8, 64)),
            worker_mailbox=self.chances.choice((6, 24, 200)),
            worker_session_mailbox=random.Random(f"mailbox {seed}").choice((1, 2, 16)),
            worker_pool_bytes=self.chances.choice((0, 20_000, 10_000_000)),
            worker_snapshot_bytes=self.chances.choice((1_024, 4_096)),
            worker_drain_s=0.3,
            worker_grace_s=2.0,
        )

        self.lobby = Lobby(seed, self, tuple(TOPICS))
        self.operators = Operators(seed, self)

    def clock_ms(self, skew_ms: int) -> int:
        """A wall clock."""
        return EPOCH_MS + int(self.loop.time() * 1_000) + skew_ms

    # ---- workers

    def join(self) -> None:
        """One more worker."""
        process = Process(self.loop, f"w{next(self._names)}")
        twin = MemoryGroupConsumer(self.cluster, "workers", (TURNS, CONTROL), session_timeout_s=SESSION_TIMEOUT_S)
        member = Member(process, FaultyConsumer(twin, self.loop, process, self.weather))
        self.members.append(member)
        self.ledger.note(f"{process.name} joins")
        self.loop.create_task(self._start(member), context=process.context)

    async def _start(self, member: Member) -> None:
        loop, process, weather = self.loop, member.process, self.weather
        publisher = FaultyPublisher(self.cluster, tuple(TOPICS), loop, process, weather)
        while self.cluster.down:
            await asyncio.sleep(0.1)
        await publisher.start()

        def clock_ms() -> int:
            return self.clock_ms(member.skew_ms)

        chances = random.Random(f"{process.name} {self.chances.random()}")
        models = ModelCaller(ScriptedModel(answers(chances)), ModelSettings(), clock_ms=clock_ms, chance=chances.random)
        agent = Steps(chances, self.ledger, lambda: self.kill(member, "by its agent"))
        registry = Registry.load((), "echo", found=list)
        pays = Pays(chances, self.ledger)
        specs = [spec_of("steps", agent), spec_of("guards", agent, "wait"), spec_of("pays", pays)]
        specs += [spec_of("asks", Asks(chances, self.ledger)), spec_of("forks", Forks(chances, self.ledger))]
        specs += [spec_of("yields", Yields(chances, self.ledger), on_suspended="first")]
        registry.add(specs, "the simulation")
        journal = FaultyJournal(self.journal, loop, weather, lambda why: self.kill(member, f"after {why}"))
        store = FaultyStore(self.store, journal)
        await self._look_at_topics(store, clock_ms)
        parts = Parts(
            store=store,
            consumer=member.consumer,
            outbox=Outbox(publisher, call_later=loop.call_later),
            registry=registry,
            builder=Builder(),
            executor=Executor(Services(models=models, clock_ms=clock_ms), call_later=loop.call_later),
            turn_log=TurnLog(enabled=False, call_later=loop.call_later, stream=io.StringIO()),
            clock_ms=clock_ms,
            clock_s=loop.time,
            call_later=loop.call_later,
        )
        sessions = SessionSettings(session_quarantine_s=QUARANTINE_S)
        member.worker = Worker(parts, publisher, name=process.name, settings=self.settings, sessions=sessions)
        await member.worker.start()
        await member.worker.stopping.wait()
        if member.worker.error is not None:
            self.ledger.fail(f"{process.name} ended by an error of ours: {member.worker.error!r}")
        else:
            await self._drain(member.worker, member)

    async def _look_at_topics(self, store: Store, clock_ms: Callable[[], int]) -> None:
        """As `python -m workers` does it; one that cannot start is started again."""
        while True:
            try:
                topics = await MemoryAdmin(self.cluster).describe((TURNS, CONTROL))
                self.weather.counts["turns woken"] += await wake_what_lost_its_record(store, topics, clock_ms())
                return
            except (BrokerUnavailable, StoreUnavailable):
                await asyncio.sleep(0.2)

    def fit(self) -> list[Member]:
        """Workers that live, run and stay."""
        return [member for member in self.members if member.fit]

    def kill(self, member: Member, how: str = "") -> None:
        """kill -9; the supervisor starts another one soon."""
        if member.process.dead:
            return
        self.ledger.note(f"{member.process.name} is killed {how}")
        self.weather.counts[f"kill {how}".strip()] += 1
        member.process.kill()
        member.consumer.twin.silence()
        self.loop.call_later(self.chances.uniform(0.1, 2.5), self.join, context=EMPTY)

    def freeze(self, member: Member, for_s: float) -> None:
        """SIGSTOP, and SIGCONT after a while; the group is heard a little later."""
        self.ledger.note(f"{member.process.name} is frozen for {for_s:.2f}")
        member.process.freeze()
        member.consumer.twin.silence()
        self.loop.call_later(for_s, self._thaw, member, context=EMPTY)

    def _thaw(self, member: Member) -> None:
        if not member.process.dead:
            self.ledger.note(f"{member.process.name} wakes")
            member.process.thaw()
            self.loop.call_later(self.chances.uniform(0.0, 1.0), self._heard, member, context=EMPTY)

    def _heard(self, member: Member) -> None:
        if not (member.process.dead or member.process.frozen):
            member.consumer.twin.wake()

    def leave(self, member: Member) -> None:
        """SIGTERM, and often a second one."""
        if member.worker is not None:
            self.ledger.note(f"{member.process.name} drains")
            member.leaving = True
            self.loop.call_soon(member.worker.stop, context=member.process.context)
            if self.chances.random() < 0.4:
                self.loop.call_later(
                    self.chances.uniform(0.0, 0.6), self._hurry, member.worker, context=member.process.context
                )

    def _hurry(self, worker: Worker) -> None:
        self.weather.counts["second SIGTERM"] += 1
        worker.stop()

    async def _drain(self, worker: Worker, member: Member) -> None:
        """As `python -m workers` does it."""
        await worker.drain()
        self.ledger.note(f"{member.process.name} is drained")
        member.process.kill()
        member.consumer.twin.silence()  # where the broker was away it could not leave: its session times out

    # ---- the broker's part

    def recover(self) -> None:
        """The broker is back: members that it could not reach meanwhile join again."""
        self.cluster.recover()
        self.group.rebalance()

    def judge(self, outgoing: Outgoing) -> Verdict:
        """What becomes of a record of a worker."""
        if self.weather.happens("publish lost", PUBLISH_LOST):
            return Verdict.DROP
        if self.weather.happens("publish doubled", PUBLISH_DOUBLED):
            return Verdict.TAKE_SILENTLY
        if self.weather.happens("killed after a publish", KILL_AFTER_PUBLISH) and self.fit():
            self.loop.call_soon(self.kill, self.chances.choice(self.fit()), "after a publish", context=EMPTY)
        return Verdict.TAKE

    def send(self, sent: Sent) -> None:
        """A record of a producer."""
        key = sent.session.encode()
        headers: Any = (("reply_to", sent.reply_to.encode()),) if sent.reply_to else ()
        partition = partition_of(key, PARTITIONS)
        self.cluster.append(
            sent.stream, partition, Outgoing(sent.stream, key, orjson.dumps(sent.body), partition, headers)
        )

    def make_anew(self, streams: tuple[str, ...]) -> None:
        """Every worker ends, the streams are deleted and created again, and producers send again what they sent: all
        that the journal does not know, and some of the rest."""
        for member in self.members:
            self.kill(member, "before its topics are made anew")
        for stream in streams:
            self.cluster.make_anew(stream)
            self.ledger.made_anew(stream)
            self.group.forget(stream)
        now_s = self.loop.time()
        began = self.ledger.lives.began
        for number, sent in enumerate(sent for sent in self.plan.sent if sent.at_s <= now_s):
            if (
                (named(sent.body.get("tenant", TENANT), sent.session), sent.body.get("turn")) in began
                and sent.stream == TURNS
                and number % 2
            ):
                continue  # whoever heard `accepted` has no reason to send it again
            self.loop.call_at(now_s + 0.2 + number * 0.002, self.send, sent, context=EMPTY)

    def quiet(self) -> bool:
        """Everything that was sent is committed, nothing waits for a decision, and every user has heard of it."""
        assert isinstance(self.store.timers, MemoryTimers)
        if not (self.lobby.quiet and self.operators.quiet) or any(timer.call for timer in self.store.timers.armed):
            return False
        for topic in (TURNS, CONTROL):
            for partition in range(PARTITIONS):
                if self.group.committed.get((topic, partition), 0) < self.cluster.log(topic, partition).end:
                    return False
        return True
