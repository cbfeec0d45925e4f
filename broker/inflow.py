"""Records that were handed over and wait for the owner to take them: partitions take turns, in slices with pauses. No
I/O, no clock of its own.

Ten thousand records of one session are 0.15 s of the owner's loop. An insert goes through that loop a dozen times, so
other work comes in between and has as long as the slice before; and others' records do not wait behind those.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

from broker.port import Record

SLICE_S = 0.001
_AT_ONCE = 10

Batches = Mapping[Any, Sequence[Record]]


class CallLater(Protocol):
    """`loop.call_later`."""

    def __call__(self, delay: float, callback: Callable[[], object], /) -> object: ...


class Inflow:
    """`take(generation, records)` gets some records of one partition at a time, in their order."""

    def __init__(
        self,
        take: Callable[[Hashable, int, Sequence[Record]], None],
        *,
        call_later: CallLater,
        clock_s: Callable[[], float],
    ) -> None:
        self._take = take
        self._call_later = call_later
        self._clock_s = clock_s
        self._waiting: OrderedDict[Hashable, deque[tuple[int, Sequence[Record]]]] = OrderedDict()
        self._debt_s = 0.0
        self._left_s = clock_s()
        self._pausing = False

    def put(self, generation: int, batches: Batches) -> None:
        """Records by partition: taken now, as far as a slice reaches, the rest later."""
        for place, records in batches.items():
            self._waiting.setdefault(place, deque()).append((generation, records))
        if not self._pausing:
            self._slice()

    def drain(self) -> None:
        """Take everything now."""
        while self._waiting:
            self._some()

    def _slice(self) -> None:
        """What a slice took is owed, and paid back by the time that passes until the next. After a long round of the
        loop a slice may be as long; what passes while nothing waits is not saved up."""
        now_s = self._clock_s()
        self._debt_s -= now_s - self._left_s
        if not self._pausing:
            self._debt_s = max(self._debt_s, 0.0)
        while self._waiting and self._debt_s < SLICE_S:
            self._some()
            before_s, now_s = now_s, self._clock_s()
            self._debt_s += now_s - before_s
        self._left_s = now_s
        self._pausing = bool(self._waiting)
        if self._pausing:
            self._call_later(self._debt_s, self._slice)

    def _some(self) -> None:
        """A few records of the partition whose turn it is, which then goes to the end."""
        place, batches = self._waiting.popitem(last=False)
        generation, records = batches[0]
        if len(records) > _AT_ONCE:
            batches[0] = (generation, records[_AT_ONCE:])
        else:
            batches.popleft()
        if batches:
            self._waiting[place] = batches
        self._take(place, generation, records[:_AT_ONCE])
