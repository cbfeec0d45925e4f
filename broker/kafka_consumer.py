"""Consumes as a group member in a thread of its own, so that nothing the owner does can delay a heartbeat.

The owner's side of `broker.kafka_member`: starts the thread, passes calls to its loop. Knows nothing of records.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import uvloop

from broker.handover import Handover
from broker.kafka_admin import KafkaAdmin
from broker.kafka_group import bury
from broker.kafka_member import KafkaMember
from broker.port import BrokerUnavailable, Listener
from schemas.settings import KafkaSettings

log = logging.getLogger(__name__)

JOIN_TIMEOUT_S = 15.0

T = TypeVar("T")


class KafkaGroupConsumer:
    """The GroupConsumer port on Apache Kafka, for co-partitioned topics (bare names).

    Where the group has committed nothing, it reads from the earliest record. `client_id`: stays over restarts and is
    nobody else's; what a crash left in the group under it is taken out before this one joins.
    """

    def __init__(self, settings: KafkaSettings, group: str, topics: Sequence[str], *, client_id: str = "") -> None:
        self._client_id = client_id
        self._settings = settings
        self._group = group
        self._names = {settings.topic_prefix + topic: topic for topic in topics}
        self._member: KafkaMember | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self._closing = False

    def name(self, topic: str) -> str:
        """The topic's name on the cluster."""
        return self._settings.topic_prefix + topic

    async def start(self, listener: Listener) -> None:
        """Check the topics, start the thread, join. Raises BrokerUnavailable within 20 s."""
        await asyncio.gather(self._check_topics(), self._bury())
        owner = asyncio.get_running_loop()
        started: asyncio.Future[None] = owner.create_future()
        handover = Handover(owner, listener)

        def tell(error: BaseException | None) -> None:
            if not started.done():
                started.set_result(None) if error is None else started.set_exception(error)

        def run() -> None:
            uvloop.run(self._run(handover, lambda error: owner.call_soon_threadsafe(tell, error)))

        self._thread = threading.Thread(target=run, name=f"consumer-{self._group}", daemon=True)
        self._thread.start()
        await started

    def pause(self, topic: str, partitions: frozenset[int]) -> None:
        """From now on exactly these partitions of `topic` are paused; see the port."""
        self._soon(lambda member: member.pause(topic, partitions))

    def commit(self, generation: int, offsets: Mapping[tuple[str, int], int]) -> None:
        """A hint: commit these next offsets soon; see the port."""
        if self._member is not None:
            self._member.hints.add(generation, offsets)

    async def prove(self, generation: int, partition: int) -> bool:
        """Whether this member still owns the partition under this generation; see the port."""
        return await self._ask(lambda member: member.prove(generation, partition), default=False)

    async def rejoin(self) -> None:
        """Join again; `assigned` follows."""
        self._soon(lambda member: member.rejoin())

    async def lag(self) -> Mapping[tuple[str, int], int]:
        """Records not yet read by (bare topic, partition)."""
        none: dict[tuple[str, int], int] = {}
        return await self._ask(_lag, default=none)

    def leave(self, timeout_s: float) -> None:
        """As `stop`, from any thread and while the owner's loop is blocked; waits at most so long."""
        thread, stop = self._thread, self._stop
        self._closing = True
        if thread is not None and stop is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended already
                self._loop.call_soon_threadsafe(stop.set)
            thread.join(timeout_s)

    async def stop(self) -> None:
        """Commit what was hinted, leave the group, end the thread. Safe to call twice."""
        thread, stop = self._thread, self._stop
        if thread is None:
            return
        self._closing = True
        if stop is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended already
                self._loop.call_soon_threadsafe(stop.set)
        await asyncio.to_thread(thread.join, JOIN_TIMEOUT_S)
        if thread.is_alive():
            log.warning("the consumer of %s did not end within %g s", self._group, JOIN_TIMEOUT_S)
        self._thread = None

    async def _check_topics(self) -> None:
        """aiokafka would create a missing topic by asking for it, where the broker allows that; so look first."""
        admin = KafkaAdmin(self._settings)
        try:
            found = await admin.describe(list(self._names.values()))
        finally:
            await admin.stop()
        missing = [topic for topic in self._names.values() if topic not in found]
        if missing:
            raise BrokerUnavailable(f"the cluster lacks {', '.join(missing)}: run `fleet topics apply`")
        if len({state.partitions for state in found.values()}) > 1:
            counts = ", ".join(f"{name} has {state.partitions}" for name, state in found.items())
            raise BrokerUnavailable(f"streams that belong together are cut differently ({counts}): see topics.yaml")

    async def _bury(self) -> None:
        """Best effort: without it, the group waits until the dead one's session times out."""
        if not self._client_id:
            return
        try:
            found = await bury(self._settings, self._group, self._client_id)
        except BrokerUnavailable as error:
            log.warning("who was here before could not be taken out of group %s: %s", self._group, error)
        else:
            log.info("taken out of group %s, left behind by a crash: %d", self._group, found)

    async def _run(self, handover: Handover, tell: Callable[[BaseException | None], object]) -> None:
        """The thread's life: a member from start to stop."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        member = KafkaMember(self._settings, self._group, self._names, handover, client_id=self._client_id)
        try:
            await member.start()
        except BaseException as error:  # noqa: BLE001  (it belongs to the caller of `start`, in the other thread)
            await member.stop()
            tell(error)
            return
        self._member = member
        tell(None)
        if not self._closing:
            await self._stop.wait()
        await member.stop()
        self._member = None

    def _soon(self, what: Callable[[KafkaMember], object]) -> None:
        """Call on the consumer's loop; nothing happens when it has ended."""

        def call() -> None:
            if self._member is not None:
                what(self._member)

        if self._loop is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(call)
            except RuntimeError:
                log.debug("the consumer of %s has ended", self._group)

    async def _ask(self, what: Callable[[KafkaMember], Coroutine[Any, Any, T]], default: T) -> T:
        member, loop = self._member, self._loop
        if member is None or loop is None or loop.is_closed():
            return default
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(what(member), loop))
        except (asyncio.CancelledError, RuntimeError):
            if self._member is None:
                return default
            raise


async def _lag(member: KafkaMember) -> Mapping[tuple[str, int], int]:
    return member.lag()
