"""What waits to be published to one partition, in order. Pure bookkeeping: knows no client, no network, no clock."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from broker.port import Acked, Outgoing, Position, PublishError

log = logging.getLogger(__name__)

Waiter = asyncio.Future[Position]
Entry = tuple[Outgoing, Acked | Waiter | None]
"""A record on its way, and who is told what became of it. A bare pair: there are tens of thousands of them a second."""

Append = Callable[[int, Outgoing], bool]
Where = Callable[[Outgoing, int], Position]


class Lane:
    """One partition: what waits, and the one batch that is on its way. Order is the order of `add`, also after `back`.

    Invariant: at most one batch is in flight, so a batch that is repeated can never overtake or be overtaken. The first
    `handed` of `waiting` were in flight once: they may be in the log.
    """

    __slots__ = ("handed", "in_flight", "limit_bytes", "partition", "scheduled", "singly", "topic", "waiting")

    def __init__(self, topic: str, partition: int, limit_bytes: int) -> None:
        self.topic = topic
        self.partition = partition
        self.limit_bytes = limit_bytes
        self.waiting: deque[Entry] = deque()
        self.in_flight: list[Entry] = []
        self.handed = 0
        self.scheduled = False
        self.singly = 0

    def fits(self, outgoing: Outgoing) -> bool:
        """Whether the broker will take a record of this size (a batch of it alone; counted a little too large)."""
        size = 160 + len(outgoing.key or b"") + len(outgoing.value or b"")
        for name, value in outgoing.headers:
            size += len(name) + len(value) + 10
        return size <= self.limit_bytes

    def take(self, append: Append) -> int:
        """Move what `append` accepts from the front of the queue into `in_flight`; how many it can never accept.

        `append` is told each record's place in the batch. It returns False: the batch is full. It raises: this record
        cannot be encoded; it fails alone.
        """
        waiting, refused = self.waiting, 0
        batch = self.in_flight = []
        while waiting:
            try:
                if not append(len(batch), waiting[0][0]):
                    break
            except Exception as error:  # noqa: BLE001  (whatever is wrong with one record must not stop its neighbours)
                fail(waiting.popleft(), PublishError(f"the record cannot be encoded: {error!r}"))
                refused += 1
                continue
            batch.append(waiting.popleft())
            if self.singly:
                self.singly -= 1
                break
        self.handed = max(0, self.handed - len(batch) - refused)
        return refused

    def withdraw(self, waiter: Waiter) -> tuple[bool, bool]:
        """Its sender gave up: it leaves the queue. Tells whether it still waited, and whether it may be in the log."""
        if any(told is waiter for _, told in self.in_flight):
            return False, True
        for place, (_, told) in enumerate(self.waiting):
            if told is waiter:
                del self.waiting[place]
                was_handed = place < self.handed
                self.handed -= was_handed
                return True, was_handed
        return False, True

    def back(self) -> None:
        """The batch in flight failed: it waits again, in front of everything later."""
        self.waiting.extendleft(reversed(self.in_flight))
        self.handed += len(self.in_flight)
        self.in_flight = []

    def done(self) -> list[Entry]:
        """The batch in flight is over: its entries, in order."""
        entries, self.in_flight = self.in_flight, []
        return entries


def land(entries: Sequence[Entry], where: Where) -> None:
    """The broker has these. `where` is asked only for records that somebody waits for."""
    for place, (outgoing, told) in enumerate(entries):
        if told is None:
            continue
        if isinstance(told, asyncio.Future):
            if not told.done():
                told.set_result(where(outgoing, place))
        else:
            _tell(told, None)


def fail(entry: Entry, error: Exception) -> None:
    """It never will be in the log, or nobody will ever know."""
    told = entry[1]
    if isinstance(told, asyncio.Future):
        if not told.done():
            told.set_exception(error)
    elif told is not None:
        _tell(told, error)


def _tell(acked: Acked, error: Exception | None) -> None:
    try:
        acked(error)
    except Exception:
        log.exception("a callback of publish failed")
