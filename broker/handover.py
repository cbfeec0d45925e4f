"""Hands records from the consumer's thread to the owner's loop, a bounded number at a time. Knows no Kafka client."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

from broker.inflow import Batches, Inflow
from broker.port import Assignment, Listener, Record

RECORDS = 500
"""Records handed over and not yet taken before the consumer waits."""
EACH = 100
"""The same of one partition: above it the others are read without it."""


class Handover:
    """One per started consumer. `give`, `announce`, `fail`, `full` and `room` run on the consumer's loop, the rest
    elsewhere.

    What is given is counted by one thread, what is taken by the other. `room` says that it waits before it looks again,
    and the owner counts before it looks for somebody who waits: so no wake-up is missed.
    """

    def __init__(
        self,
        owner: asyncio.AbstractEventLoop,
        listener: Listener,
        limit: int = RECORDS,
        *,
        each: int = EACH,
        clock_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._owner = owner
        self._listener = listener
        self._limit = limit
        self._each = each
        self._given = self._taken = 0
        self._given_of: Counter[Hashable] = Counter()
        self._taken_of: Counter[Hashable] = Counter()
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._inflow = Inflow(self._take, call_later=owner.call_later, clock_s=clock_s)

    @property
    def outstanding(self) -> int:
        """Records on their way."""
        return self._given - self._taken

    def full(self) -> set[Hashable]:
        """Partitions of which so many records are on their way that others come first."""
        return {place for place, given in self._given_of.items() if given - self._taken_of[place] >= self._each}

    def announce(self, assignment: Assignment) -> None:
        """Tell the listener of a new assignment, after everything given before."""
        _quietly(self._owner, self._assigned, assignment)

    def give(self, generation: int, batches: Batches) -> None:
        """Give what was read, by partition."""
        for place, records in batches.items():
            self._given += len(records)
            self._given_of[place] += len(records)
        _quietly(self._owner, self._inflow.put, generation, batches)

    def fail(self, error: BaseException) -> None:
        """Tell the listener that the consumer has ended."""
        _quietly(self._owner, self._listener.failed, error)

    async def room(self) -> None:
        """Wait until fewer records than the limit are on their way."""
        while self.outstanding >= self._limit:
            event = asyncio.Event()
            self._waiter = (asyncio.get_running_loop(), event)
            if self.outstanding >= self._limit:
                await event.wait()
            self._waiter = None

    def _assigned(self, assignment: Assignment) -> None:
        self._inflow.drain()
        self._listener.assigned(assignment)

    def _take(self, place: Hashable, generation: int, records: Sequence[Record]) -> None:
        try:
            self._listener.received(generation, records)
        except Exception as error:  # noqa: BLE001  (a listener that cannot take records is the end of this consumer)
            self._listener.failed(error)
        self._taken_of[place] += len(records)
        self._taken += len(records)
        waiter = self._waiter
        if waiter is not None:
            _quietly(waiter[0], waiter[1].set)


def _quietly(loop: asyncio.AbstractEventLoop, what: Callable[..., None], *arguments: object) -> None:
    """Call on a loop of another thread; a loop that is closed has nobody left to tell."""
    try:
        loop.call_soon_threadsafe(what, *arguments)
    except RuntimeError:
        if not loop.is_closed():
            raise
