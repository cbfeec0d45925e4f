"""What every publisher here does the same way: queue by partition, refuse, wait, give up. Knows no client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from broker.lane import Entry, Lane
from broker.partition import partition_of
from broker.port import Acked, Outgoing, Position, PublishError, PublishUnknown

Where = Callable[[Entry, int], Position]


class Outbox:
    """The lanes of one publisher. `wake` is called when a lane has something to send and nothing in flight.

    Whoever drains takes `ready()` lanes, moves records into flight (`Lane.take`), and says `landed`, `refused` or
    `again` for each.
    """

    def __init__(self, lanes: Mapping[str, Sequence[Lane]], wake: Callable[[], None]) -> None:
        self._lanes = lanes
        self._wake = wake
        self._ready: list[Lane] = []
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def partition_count(self, topic: str) -> int:
        """How many partitions the topic has. KeyError: not among this publisher's."""
        return len(self._lanes[topic])

    def publish(self, outgoing: Outgoing, acked: Acked | None) -> None:
        """Queue one record; `acked` is called later, never from here."""
        self._add(Entry(outgoing, acked, None))

    async def send(self, outgoing: Outgoing, timeout_s: float) -> Position:
        """Queue one record and wait. PublishError: certainly not in the log. PublishUnknown: nobody knows."""
        waiter: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        entry = Entry(outgoing, None, waiter)
        self._add(entry)
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter
        except TimeoutError:
            entry.gone = True
            if entry.handed:
                raise PublishUnknown(f"no answer from the broker within {timeout_s:g} s") from None
            raise PublishError(f"the broker could not be reached for {timeout_s:g} s; never sent") from None

    async def flush(self) -> None:
        """Wait until nothing is queued or in flight."""
        await self._idle.wait()

    def ready(self) -> list[Lane]:
        """The lanes to send from now, each once; records whose sender gave up before they left are forgotten."""
        lanes, self._ready = self._ready, []
        for lane in lanes:
            lane.scheduled = False
            self.settle(lane.drop_gone())
        return [lane for lane in lanes if lane.waiting and not lane.in_flight]

    def landed(self, lane: Lane, where: Where) -> None:
        """The batch in flight is in the log."""
        entries = lane.done()
        for index, entry in enumerate(entries):
            entry.landed(None if entry.waiter is None else where(entry, index))
        self.settle(len(entries))
        if lane.waiting:
            self.schedule(lane)

    def refused(self, lane: Lane, error: PublishError) -> None:
        """The batch in flight never will be in the log."""
        entries = lane.done()
        for entry in entries:
            entry.failed(error)
        self.settle(len(entries))
        self.schedule(lane)

    def again(self, lane: Lane) -> None:
        """The batch in flight has to be sent again, before everything later."""
        lane.back()
        self.schedule(lane)

    def schedule(self, lane: Lane) -> None:
        """Have the lane in the next `ready`."""
        if not lane.scheduled:
            lane.scheduled = True
            self._ready.append(lane)
        self._wake()

    def settle(self, count: int) -> None:
        """So many records are over, one way or the other."""
        self._open -= count
        if self._open == 0:
            self._idle.set()

    def close(self) -> None:
        """Take nothing more."""
        self._closed = True

    def give_up(self) -> None:
        """Whatever is left fails: unknown if it was ever handed to the client, else never sent."""
        self._closed = True
        for lane in (lane for lanes in self._lanes.values() for lane in lanes):
            lane.back()
            entries = [*lane.waiting]
            lane.waiting.clear()
            for entry in entries:
                entry.failed(_closed_on(entry))
            self.settle(len(entries))

    def _add(self, entry: Entry) -> None:
        outgoing = entry.outgoing
        lanes = self._lanes[outgoing.topic]
        partition = outgoing.partition
        if partition is None:
            partition = partition_of(outgoing.key or b"", len(lanes))
        if self._closed or not 0 <= partition < len(lanes) or not lanes[partition].fits(outgoing):
            asyncio.get_running_loop().call_soon(entry.failed, self._why_not(outgoing, partition))
            return
        if self._open == 0:
            self._idle.clear()
        self._open += 1
        lane = lanes[partition]
        lane.waiting.append(entry)
        if not lane.in_flight and not lane.scheduled:
            self.schedule(lane)

    def _why_not(self, outgoing: Outgoing, partition: int) -> PublishError:
        lanes = self._lanes[outgoing.topic]
        if self._closed:
            return PublishError("the publisher is closed")
        if not 0 <= partition < len(lanes):
            return PublishError(f"{outgoing.topic} has no partition {partition}")
        limit = lanes[partition].limit_bytes
        return PublishError(f"the record is larger than the {limit} bytes that {outgoing.topic} takes")


def _closed_on(entry: Entry) -> Exception:
    if entry.handed:
        return PublishUnknown("no answer from the broker before the publisher closed")
    return PublishError("the publisher closed; never sent")
