"""Hands batches from the consumer's thread to the owner's loop, a bounded number at a time. Knows no Kafka client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from broker.port import Assignment, Listener, Record

RECORDS = 500
"""Records handed over and not yet taken before the consumer waits: what is read later waits behind them."""


class Handover:
    """One per started consumer. `give`, `announce`, `fail` and `room` run on the consumer's loop, the rest elsewhere.

    Each of the two counters is written by one thread only. `room` says that it waits before it looks again, and the
    owner counts before it looks for somebody who waits: so no wake-up is missed.
    """

    def __init__(self, owner: asyncio.AbstractEventLoop, listener: Listener, limit: int = RECORDS) -> None:
        self._owner = owner
        self._listener = listener
        self._limit = limit
        self._given = 0
        self._taken = 0
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    @property
    def outstanding(self) -> int:
        """Records on their way."""
        return self._given - self._taken

    def announce(self, assignment: Assignment) -> None:
        """Tell the listener of a new assignment, after everything given before."""
        _quietly(self._owner, self._listener.assigned, assignment)

    def give(self, generation: int, records: Sequence[Record]) -> None:
        """Give one batch."""
        self._given += len(records)
        _quietly(self._owner, self._take, generation, records)

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

    def _take(self, generation: int, records: Sequence[Record]) -> None:
        try:
            self._listener.received(generation, records)
        except Exception as error:  # noqa: BLE001  (a listener that cannot take records is the end of this consumer)
            self._listener.failed(error)
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
