"""Wrappers around the twins of store and broker that lose, delay, double and leave open what passes. No product logic.

Each belongs to one process: what it holds dies with it; what is on the wire does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from typing import Any, TypeVar

from broker.memory import SEND_TIMEOUT_S, MemoryCluster, MemoryGroupConsumer, MemoryPublisher
from broker.port import Acked, Assignment, Listener, Outgoing, Position, Record
from journal.gate import Call
from journal.memory import MemoryJournal, MemoryStore
from journal.port import Journal, Row, StoreUnavailable, Verdict
from tests.simulation.virtual import EMPTY, Process, VirtualLoop
from tests.simulation.weather import COMMIT_LOST, KILL_AFTER_APPEND, PROVE_FAILS, READ_FAILS, Weather

_T = TypeVar("_T")


class Pipe:
    """Calls that arrive later, in order, as the process of `context`."""

    def __init__(self, loop: VirtualLoop, weather: Weather, context: Context) -> None:
        self._loop = loop
        self._weather = weather
        self._context = context
        self._last_s = 0.0

    def put(self, call: Callable[..., Any], *args: Any) -> None:
        self._last_s = max(self._last_s, self._loop.time() + self._weather.delay_s())
        self._loop.call_at(self._last_s, call, *args, context=self._context)


def gate_of(weather: Weather) -> Callable[[Call], Awaitable[None]]:
    """For every operation of the store but inserts: takes a while each way, fails before or after."""

    async def gate(call: Call) -> None:
        await asyncio.sleep(weather.store_delay_s())
        if weather.store_down or weather.happens(f"{call.operation} fails {call.phase}", READ_FAILS):
            await asyncio.sleep(weather.timeout_s())
            raise StoreUnavailable("no answer")

    return gate


class FaultyJournal:
    """The journal port: inserts go over a wire of their own, the rest through the gate of the twin."""

    def __init__(self, twin: MemoryJournal, loop: VirtualLoop, weather: Weather, kill: Callable[[str], None]) -> None:
        self._twin = twin
        self._loop = loop
        self._weather = weather
        self._kill = kill
        self.read = twin.read
        self.row = twin.row
        self.exists = twin.exists
        self.introduced = twin.introduced
        self.unset = twin.unset
        self.drop = twin.drop

    async def insert(self, rows: Sequence[Row]) -> list[Verdict]:
        """See the port."""
        answer: asyncio.Future[list[Verdict]] = self._loop.create_future()
        fault = self._weather.insert_fault()
        self._wire(self._weather.store_delay_s(), self._arrive, tuple(rows), fault, answer)
        return await answer

    def _wire(self, delay_s: float, call: Callable[..., Any], *args: Any) -> None:
        self._loop.call_later(delay_s, call, *args, context=EMPTY)

    def _arrive(self, rows: Sequence[Row], fault: str | None, answer: asyncio.Future[list[Verdict]]) -> None:
        weather = self._weather
        if fault in {"lost", "late", "ambiguous", "partial"}:
            if fault == "late":
                self._wire(weather.timeout_s() * 2, self._twin.apply, rows)
            elif fault != "lost":
                self._twin.apply(rows if fault == "ambiguous" else rows[: len(rows) // 2])
            self._wire(weather.timeout_s(), _fail, answer)
            return
        verdicts = self._twin.apply(rows)
        if fault == "doubled":
            verdicts = self._twin.apply(rows)
        if weather.happens("killed after an append", KILL_AFTER_APPEND):
            self._kill("append")
        self._wire(weather.store_delay_s(), _answer, answer, verdicts)


class FaultyStore:
    """The store port for one process."""

    def __init__(self, twin: MemoryStore, journal: FaultyJournal) -> None:
        self.journal: Journal = journal
        self.payloads = twin.payloads
        self.snapshots = twin.snapshots
        self.directory = twin.directory
        self.timers = twin.timers
        self.letters = twin.letters
        self.profiles = twin.profiles
        self.pins = twin.pins
        self.budgets = twin.budgets
        self.survey = twin.survey
        self.fetch = twin.fetch
        self.start = twin.start
        self.ping = twin.ping
        self.recorded = twin.recorded
        self.record = twin.record

    async def stop(self) -> None:
        """The twin goes on: others use it."""


class FaultyPublisher:
    """The publisher port. What the broker does to records says `cluster.judge`; this adds the way there and back."""

    def __init__(
        self,
        cluster: MemoryCluster,
        topics: Sequence[str],
        loop: VirtualLoop,
        process: Process,
        weather: Weather,
        *,
        timeout_s: float = SEND_TIMEOUT_S,
    ) -> None:
        self.twin = MemoryPublisher(cluster, topics, timeout_s=timeout_s)
        self._weather = weather
        loop.adopt(self.twin, process.context)
        self._there = Pipe(loop, weather, process.context)
        self._back = Pipe(loop, weather, process.context)
        self._open = 0
        self._idle = asyncio.Event()

    def partition_count(self, topic: str) -> int:
        return self.twin.partition_count(topic)

    async def start(self) -> None:
        await self.twin.start()

    def publish(self, outgoing: Outgoing, acked: Acked | None = None) -> None:
        self._open += 1
        self._idle.clear()
        self._there.put(self.twin.publish, outgoing, lambda error: self._back.put(self._acked, acked, error))

    async def send(self, outgoing: Outgoing) -> Position:
        position = await self.twin.send(outgoing)
        await asyncio.sleep(self._weather.delay_s())
        return position

    async def flush(self) -> None:
        while self._open:
            await self._idle.wait()

    async def stop(self) -> None:
        """As the real one: flushes for a bounded time."""
        try:
            async with asyncio.timeout(5.0):
                await self.flush()
        except TimeoutError:
            pass
        await self.twin.stop()

    def _acked(self, acked: Acked | None, error: Exception | None) -> None:
        self._open -= 1
        if not self._open:
            self._idle.set()
        if acked is not None:
            acked(error)


class FaultyConsumer:
    """The consumer port, and the listener that the twin tells: facts come later, in order."""

    def __init__(self, twin: MemoryGroupConsumer, loop: VirtualLoop, process: Process, weather: Weather) -> None:
        self.twin = twin
        loop.adopt(twin, process.context)
        self._weather = weather
        self._facts = Pipe(loop, weather, process.context)
        self._hints = Pipe(loop, weather, process.context)
        self._listener: Listener | None = None
        self.name = twin.name
        self.pause = twin.pause
        self.lag = twin.lag
        self.stop = twin.stop

    async def start(self, listener: Listener) -> None:
        self._listener = listener
        await self.twin.start(self)

    def commit(self, generation: int, offsets: Mapping[tuple[str, int], int]) -> None:
        if not self._weather.happens("commit lost", COMMIT_LOST):
            self._hints.put(self.twin.commit, generation, dict(offsets))

    async def prove(self, generation: int, partition: int) -> bool:
        await asyncio.sleep(self._weather.delay_s())
        proved = await self.twin.prove(generation, partition)
        await asyncio.sleep(self._weather.delay_s())
        return proved and not self._weather.happens("prove fails", PROVE_FAILS)

    async def rejoin(self) -> None:
        await asyncio.sleep(self._weather.delay_s())
        await self.twin.rejoin()

    def assigned(self, assignment: Assignment) -> None:
        assert self._listener is not None
        self._facts.put(self._listener.assigned, assignment)

    def received(self, generation: int, records: Sequence[Record]) -> None:
        assert self._listener is not None
        self._facts.put(self._listener.received, generation, records)

    def failed(self, error: BaseException) -> None:
        assert self._listener is not None
        self._listener.failed(error)


def _fail(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(StoreUnavailable("no answer"))
        answer.exception()


def _answer(answer: asyncio.Future[_T], value: _T) -> None:
    if not answer.done():
        answer.set_result(value)
