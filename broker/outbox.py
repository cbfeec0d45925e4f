"""What every publisher here does the same way: queue by partition, refuse, wait, give up. Knows no client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from broker.lane import Lane, Waiter, Where, fail, land
from broker.partition import partition_of
from broker.port import Acked, Outgoing, Position, PublishError, PublishUnknown


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

    def publish(self, outgoing: Outgoing, acked: Acked | Waiter | None) -> Lane | None:
        """Queue one record; `acked` is told later, never from here. The lane it waits in, or None: refused."""
        lanes = self._lanes[outgoing.topic]
        partition = outgoing.partition
        if partition is None:
            partition = partition_of(outgoing.key or b"", len(lanes))
        if self._closed or not 0 <= partition < len(lanes) or not lanes[partition].fits(outgoing):
            why = self._why_not(outgoing, partition)
            asyncio.get_running_loop().call_soon(fail, (outgoing, acked), why)
            return None
        if self._open == 0:
            self._idle.clear()
        self._open += 1
        lane = lanes[partition]
        lane.waiting.append((outgoing, acked))
        if not lane.in_flight and not lane.scheduled:
            self.schedule(lane)
        return lane

    async def send(self, outgoing: Outgoing, timeout_s: float) -> Position:
        """Queue one record and wait. PublishError: certainly not in the log. PublishUnknown: nobody knows."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        lane = self.publish(outgoing, waiter)
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter
        except TimeoutError:
            if lane is None or self._never_left(lane, waiter):
                raise PublishError(f"the broker could not be reached for {timeout_s:g} s; never sent") from None
            raise PublishUnknown(f"no answer from the broker within {timeout_s:g} s") from None

    async def flush(self) -> None:
        """Wait until nothing is queued or in flight."""
        await self._idle.wait()

    def ready(self, may_go: Callable[[Lane], bool] = lambda _: True) -> list[Lane]:
        """The lanes to send from now, each once. One that may not go yet stays ready."""
        lanes, self._ready = self._ready, []
        found = []
        for lane in lanes:
            if not may_go(lane):
                self._ready.append(lane)
                continue
            lane.scheduled = False
            if lane.waiting and not lane.in_flight:
                found.append(lane)
        return found

    def landed(self, lane: Lane, where: Where) -> None:
        """The batch in flight is in the log."""
        entries = lane.done()
        land(entries, where)
        self.settle(len(entries))
        if lane.waiting:
            self.schedule(lane)

    def refused(self, lane: Lane, error: PublishError) -> None:
        """The batch in flight never will be in the log."""
        entries = lane.done()
        for entry in entries:
            fail(entry, error)
        self.settle(len(entries))
        self.schedule(lane)

    def again(self, lane: Lane) -> None:
        """The batch in flight has to be sent again, before everything later."""
        lane.back()
        self.schedule(lane)

    def all_again(self) -> None:
        """No batch in flight will be answered any more: each has to be sent again, before everything later."""
        for lane in (lane for lanes in self._lanes.values() for lane in lanes if lane.in_flight):
            self.again(lane)

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
            entries, handed = [*lane.waiting], lane.handed
            lane.waiting.clear()
            lane.handed = 0
            for place, entry in enumerate(entries):
                fail(entry, _closed_on(handed=place < handed))
            self.settle(len(entries))

    def _never_left(self, lane: Lane, waiter: Waiter) -> bool:
        """A sender gave up: whether its record certainly is not in the log, and now never will be."""
        waited, may_be_there = lane.withdraw(waiter)
        self.settle(waited)
        return not may_be_there

    def _why_not(self, outgoing: Outgoing, partition: int) -> PublishError:
        lanes = self._lanes[outgoing.topic]
        if self._closed:
            return PublishError("the publisher is closed")
        if not 0 <= partition < len(lanes):
            return PublishError(f"{outgoing.topic} has no partition {partition}")
        limit = lanes[partition].limit_bytes
        return PublishError(f"the record is larger than the {limit} bytes that {outgoing.topic} takes")


def _closed_on(*, handed: bool) -> Exception:
    if handed:
        return PublishUnknown("no answer from the broker before the publisher closed")
    return PublishError("the publisher closed; never sent")
