"""A member of a Kafka consumer group, on the loop of the consumer's own thread: poll, rebalance, commit, prove.

Knows aiokafka's traps (design §5), hands records on; knows nothing of what is in them. Everything runs on one loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError, InvalidSessionTimeoutError, KafkaError

from broker.handover import Handover
from broker.hints import Hints
from broker.kafka_connect import client_options, close_consumer, in_time
from broker.kafka_fetch import read_fast
from broker.kafka_identity import keep_member_id
from broker.kafka_pace import pace
from broker.kafka_records import lean, take_turns
from broker.port import Assignment, BrokerUnavailable, Record
from schemas.settings import KafkaSettings

log = logging.getLogger(__name__)

POLL_MS = 500
FULL_MS = 2  # a partition of which the owner has enough is left out so long, then it is looked at again
POLL_RECORDS = 100
FETCH_BYTES = 2_097_152  # eight batches may be on their way when a worker short of memory pauses, decoded thrice that
FETCH_WAIT_MS = 100  # a resumed partition waits for the fetch that is under way without it: so never long
GATHER_S = 0.002
COMMIT_EVERY_S = 0.1
COMMIT_TIMEOUT_S = 5.0
REVOKE_TIMEOUT_S = 2.0
PROVE_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
RETRY_S = 0.2

Places = Mapping[tuple[str, int], int]
Membership = tuple[int, str]


class NotCoPartitioned(Exception):
    """The group gave this member different partitions of streams that belong together."""


class KafkaMember(ConsumerRebalanceListener):  # type: ignore[misc]
    """One member, from `start` to `stop`. `topics`: full name → bare name; proofs commit to the first."""

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        topics: Mapping[str, str],
        handover: Handover,
        *,
        client_id: str = "",
    ) -> None:
        self._client_id = client_id
        self.hints = Hints()
        self._settings = settings
        self._group = settings.topic_prefix + group
        self._topics = topics
        self._prefix = len(settings.topic_prefix)
        self._handover = handover
        self._consumer: Any = None
        self._tasks: list[asyncio.Task[None]] = []
        self._announcer: asyncio.Task[None] | None = None
        self._generation = 0
        self._assigned = False
        self._announced = False
        self._stopping = False
        self._membership: Membership = (-1, "")
        self._held: dict[Any, list[Record]] = {}
        self._paused: dict[str, frozenset[int]] = {}
        self._committed: dict[tuple[str, int], int] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._commit_lock = asyncio.Lock()
        self._asked: list[tuple[int, int, asyncio.Future[bool]]] = []
        self._prover: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, subscribe, begin to poll. Raises BrokerUnavailable."""
        options = client_options(self._settings, "consumer")
        self._consumer = AIOKafkaConsumer(
            **options | {"client_id": self._client_id or options["client_id"]},
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=self._settings.kafka_session_timeout_ms,
            heartbeat_interval_ms=self._settings.kafka_heartbeat_ms,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            fetch_max_bytes=FETCH_BYTES,
            max_poll_records=POLL_RECORDS,
        )
        pace(self._consumer, GATHER_S)
        read_fast(self._consumer)
        await in_time(self._settings, self._consumer.start())
        lean(self._consumer)
        keep_member_id(self._consumer)
        self._consumer.subscribe(list(self._topics), listener=self)
        self._tasks = [
            asyncio.create_task(self._guarded(self._poll()), name="poll"),
            asyncio.create_task(self._guarded(self._commit_often()), name="commit"),
        ]

    async def stop(self) -> None:
        """Commit what was hinted, leave the group, disconnect; bounded in time. Safe to call twice."""
        tasks = [*self._tasks, *(task for task in (self._announcer, self._prover) if task is not None)]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._tasks = []
        consumer = self._consumer
        if consumer is None or self._stopping:
            return
        self._stopping = (
            True  # a rebalance may come meanwhile: what it revokes is committed, what it assigns is not ours
        )
        await self._last_commit(consumer, STOP_TIMEOUT_S)
        await close_consumer(consumer, STOP_TIMEOUT_S)
        self._consumer = None

    def pause(self, topic: str, partitions: frozenset[int]) -> None:
        """Exactly these partitions of the bare topic are paused from now on."""
        self._paused[topic] = partitions
        self._apply_pauses()

    async def prove(self, generation: int, partition: int) -> bool:
        """See the port. Proofs that are asked for while one is under way share the next commit."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked.append((generation, partition, answer))
        if self._prover is None or self._prover.done():
            self._prover = asyncio.create_task(self._prove_all(), name="prove")
        return await answer

    def rejoin(self) -> None:
        """Join again; `assigned` follows. aiokafka has no public call for it that keeps the subscription."""
        if self._consumer is not None:
            self._consumer._coordinator.request_rejoin()

    def lag(self) -> dict[tuple[str, int], int]:
        """Records not yet read, where a fetch has told the end of the partition."""
        found = {}
        for place, following in self._next.items():
            end = self._consumer.highwater(self._tp(place)) if self._consumer and self._assigned else None
            if end is not None:
                found[place] = max(0, end - following)
        return found

    async def on_partitions_revoked(self, revoked: object) -> None:
        """Called by aiokafka before every rebalance, while this member is still one: the last moment to commit."""
        if self._announcer is not None:
            self._announcer.cancel()
        self._announced = False
        self._held = {}
        await self._last_commit(self._consumer, REVOKE_TIMEOUT_S)
        self._assigned = False
        self.hints.begin(0)

    def on_partitions_assigned(self, assigned: Sequence[Any]) -> None:
        """Called by aiokafka before it heartbeats again: so nothing is awaited here, `_announce` does the rest."""
        if self._stopping:
            return
        self._generation += 1
        self._assigned = True
        self._membership = _membership(self._consumer)
        self._committed, self._next = {}, {}
        self._apply_pauses()
        self._announcer = asyncio.create_task(self._guarded(self._announce(self._generation)), name="announce")

    async def _announce(self, generation: int) -> None:
        """Find where reading begins, then tell the owner, then let records through."""
        consumer = self._consumer
        places = [self._place(tp) for tp in consumer.assignment()]
        partitions = self._common(places)
        offsets = await self._starts(places)
        if generation != self._generation or not self._assigned:
            return
        # Each leader tells its positions when it is asked, so one may come after records of its partition were read:
        # it then lies behind them, and whoever starts there would take them for seen, and commit them.
        offsets |= {self._place(tp): records[0].offset for tp, records in self._held.items()}
        self._committed = dict(offsets)
        self._next = {**offsets, **self._next}
        self.hints.begin(generation)
        self._handover.announce(Assignment(generation, partitions, offsets))
        self._announced = True
        held, self._held = self._held, {}
        if held:
            self._handover.give(generation, held)

    async def _starts(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The first offset that will be read, by place. A commit beyond the end is one of a topic that was deleted and
        created anew: then reading begins at the beginning, and so do the marks of whoever counts on it."""
        consumer, tps = self._consumer, {place: self._tp(place) for place in places}
        starts = {place: await consumer.position(tp) for place, tp in tps.items()}
        ends = await consumer.end_offsets(list(tps.values()))
        beyond = [tp for place, tp in tps.items() if starts[place] > ends[tp]]
        if beyond:
            log.warning("group %s had committed beyond the end: it reads from the beginning", self._group)
            begins = await consumer.beginning_offsets(beyond)
            starts.update((self._place(tp), begins[tp]) for tp in beyond)
            for tp in consumer.assignment().intersection(beyond):
                consumer.seek(tp, begins[tp])
        return starts

    def _common(self, places: Sequence[tuple[str, int]]) -> frozenset[int]:
        by_topic = {name: frozenset(part for topic, part in places if topic == name) for name in self._topics.values()}
        if len(set(by_topic.values())) > 1:
            raise NotCoPartitioned(
                f"group {self._group} has different partitions of {', '.join(by_topic)}: "
                "every member must subscribe to the same topics, with equal partition counts"
            )
        return next(iter(by_topic.values()))

    async def _poll(self) -> None:
        while True:
            await self._handover.room()
            try:
                batches = await self._read()
            except KafkaError as error:
                if not error.retriable:
                    raise
                log.warning("polling failed, repeating: %r", error)
                await asyncio.sleep(RETRY_S)
                continue
            if batches:
                self._deliver(batches)
                take_turns(self._consumer, batches)

    async def _read(self) -> Mapping[Any, Sequence[Any]]:
        """What was fetched. Partitions of which the owner has much to take already are left out for a moment."""
        full = self._handover.full()
        if not full:
            return await self._consumer.getmany(timeout_ms=POLL_MS)  # type: ignore[no-any-return]
        others = self._consumer.assignment() - full
        if not others:  # to aiokafka, none is all
            await asyncio.sleep(FULL_MS / 1000)
            return {}
        return await self._consumer.getmany(*others, timeout_ms=FULL_MS)  # type: ignore[no-any-return]

    def _deliver(self, batches: Mapping[Any, Sequence[Any]]) -> None:
        """No await between aiokafka's check of the assignment and here: these records are of this generation."""
        for tp, some in batches.items():
            self._next[self._place(tp)] = some[-1].offset + 1
        if self._announced:
            self._handover.give(self._generation, batches)
            return
        for tp, some in batches.items():
            self._held.setdefault(tp, []).extend(some)

    async def _commit_often(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            await self._commit_hints(self._consumer, COMMIT_TIMEOUT_S)

    async def _last_commit(self, consumer: Any, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._commit_hints(consumer, timeout_s)
        except TimeoutError:
            log.warning("the last commit of group %s did not end in time; its records will come again", self._group)

    async def _commit_hints(self, consumer: Any, timeout_s: float) -> None:
        generation = self._generation
        async with self._commit_lock:
            hints = self.hints.take()
            if hints and not await self._commit(consumer, hints, timeout_s):
                self.hints.back(generation, hints)

    async def _commit(self, consumer: Any, places: Places, timeout_s: float) -> bool | None:
        """Commit. True: done. False: not now, another time. None: never, this member has been replaced."""
        assignment = consumer.assignment()
        offsets = {self._tp(place): offset for place, offset in places.items() if self._tp(place) in assignment}
        if not self._assigned or self._membership != _membership(consumer) or not offsets:
            return None
        try:
            async with asyncio.timeout(timeout_s):
                await consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError) as error:
            log.info("a commit came too late for group %s: %r", self._group, error)
            return None
        except (KafkaError, TimeoutError) as error:
            log.warning("committing for group %s failed, repeating: %r", self._group, error)
            return False
        self._committed.update(places)
        return True

    async def _prove_all(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, []
            present = [(generation, part) for generation, part, _ in asked if generation == self._generation]
            proven = await self._prove_partitions({part for _, part in present})
            for generation, part, answer in asked:
                if not answer.done():
                    answer.set_result(generation == self._generation and part in proven)

    async def _prove_partitions(self, partitions: set[int]) -> set[int]:
        """Commit offsets that are committed already, of those that are assigned; which of them the group took."""
        first = next(iter(self._topics.values()))
        offsets = {
            (first, part): self._committed[first, part] for part in partitions if (first, part) in self._committed
        }
        if not offsets:
            return set()
        try:
            async with asyncio.timeout(PROVE_TIMEOUT_S), self._commit_lock:
                offsets = {place: self._committed[place] for place in offsets if place in self._committed}
                taken = await self._commit(self._consumer, offsets, PROVE_TIMEOUT_S)
        except TimeoutError:
            return set()
        still = taken is True and self._assigned and self._membership == _membership(self._consumer)
        return {part for _, part in offsets} if still else set()

    def _apply_pauses(self) -> None:
        if self._consumer is None or not self._assigned:
            return
        wanted = {self._tp((topic, part)) for topic, parts in self._paused.items() for part in parts}
        assignment, paused = self._consumer.assignment(), self._consumer.paused()
        self._consumer.pause(*(wanted & assignment) - paused)
        self._consumer.resume(*(paused & assignment) - wanted)

    def _tp(self, place: tuple[str, int]) -> Any:
        return TopicPartition(self._settings.topic_prefix + place[0], place[1])

    def _place(self, tp: Any) -> tuple[str, int]:
        return tp.topic[self._prefix :], tp.partition

    async def _guarded(self, work: Any) -> None:
        """Whatever ends one of this member's tasks ends the consumer: the owner is told."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except InvalidSessionTimeoutError:
            asked = self._settings.kafka_session_timeout_ms
            advice = "Kafka takes 6,000 to 1,800,000 unless group.min.session.timeout.ms says otherwise"
            self._handover.fail(
                BrokerUnavailable(f"the broker refuses FLEET_KAFKA_SESSION_TIMEOUT_MS={asked}: {advice}")
            )
        except BaseException as error:  # noqa: BLE001  (the owner drains and ends, whatever it was)
            self._handover.fail(error)


def _membership(consumer: Any) -> Membership:
    """The group's generation and our id in it, as aiokafka would put them into a commit now; it has no public name."""
    coordinator = consumer._coordinator
    return coordinator.generation, coordinator.member_id
