"""What waits to be published to one partition, in order. Pure bookkeeping: knows no client, no network, no clock."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from broker.port import Acked, Outgoing, Position, PublishError

log = logging.getLogger(__name__)

Append = Callable[[Outgoing], bool]


class Entry:
    """One record on its way. `handed`: the client had it once, so it may be in the log. `gone`: nobody waits for it."""

    __slots__ = ("acked", "gone", "handed", "outgoing", "waiter")

    def __init__(self, outgoing: Outgoing, acked: Acked | None, waiter: asyncio.Future[Position] | None) -> None:
        self.outgoing = outgoing
        self.acked = acked
        self.waiter = waiter
        self.handed = False
        self.gone = False

    def landed(self, position: Position | None) -> None:
        """The broker has it. `position` is given where somebody waits for it."""
        if self.acked is not None:
            _tell(self.acked, None)
        if self.waiter is not None and position is not None and not self.waiter.done():
            self.waiter.set_result(position)

    def failed(self, error: Exception) -> None:
        """It never will be in the log, or nobody will ever know."""
        if self.acked is not None:
            _tell(self.acked, error)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(error)


class Lane:
    """One partition: what waits, and the one batch that is on its way. Order is the order of `add`, also after `back`.

    Invariant: at most one batch is in flight, so a batch that is repeated can never overtake or be overtaken.
    """

    __slots__ = ("in_flight", "limit_bytes", "partition", "scheduled", "singly", "topic", "waiting")

    def __init__(self, topic: str, partition: int, limit_bytes: int) -> None:
        self.topic = topic
        self.partition = partition
        self.limit_bytes = limit_bytes
        self.waiting: deque[Entry] = deque()
        self.in_flight: list[Entry] = []
        self.scheduled = False
        self.singly = 0

    def fits(self, outgoing: Outgoing) -> bool:
        """Whether the broker will take a record of this size (a batch of it alone; counted a little too large)."""
        size = 160 + len(outgoing.key or b"") + len(outgoing.value or b"")
        size += sum(len(name) + len(value) + 10 for name, value in outgoing.headers)
        return size <= self.limit_bytes

    def take(self, append: Append) -> int:
        """Move what `append` accepts from the front of the queue into `in_flight`; how many it can never accept.

        `append` returning False: the batch is full. Raising: this record cannot be encoded; it fails alone.
        """
        waiting, refused = self.waiting, 0
        while waiting:
            entry = waiting[0]
            try:
                if not append(entry.outgoing):
                    break
            except Exception as error:  # noqa: BLE001  (whatever is wrong with one record must not stop its neighbours)
                waiting.popleft().failed(PublishError(f"the record cannot be encoded: {error!r}"))
                refused += 1
                continue
            entry.handed = True
            self.in_flight.append(waiting.popleft())
            if self.singly:
                self.singly -= 1
                break
        return refused

    def drop_gone(self) -> int:
        """Forget the waiting records whose sender gave up; how many they were."""
        before = len(self.waiting)
        if any(entry.gone for entry in self.waiting):
            self.waiting = deque(entry for entry in self.waiting if not entry.gone)
        return before - len(self.waiting)

    def back(self) -> None:
        """The batch in flight failed: it waits again, in front of everything later."""
        self.waiting.extendleft(reversed(self.in_flight))
        self.in_flight = []

    def done(self) -> list[Entry]:
        """The batch in flight is over: its entries, in order."""
        entries, self.in_flight = self.in_flight, []
        return entries


def _tell(acked: Acked, error: Exception | None) -> None:
    try:
        acked(error)
    except Exception:
        log.exception("a callback of publish failed")
