"""Warm sessions: what was built and folded, kept while it is in use and for a while after. Knows not what it holds.

Least recently used first, by bytes and by idle time; an entry that is pinned (its session is busy) is never evicted,
so a pool whose busy sessions are over the budget is over it until they rest, and says so in `stats`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

V = TypeVar("V")
Reason = Literal["bytes", "idle", "dropped", "replaced"]


@dataclass(slots=True)
class _Warm(Generic[V]):
    value: V
    bytes: int
    used_s: float
    pins: int = 0


@dataclass(slots=True)
class PoolStats:
    """Counts since the start. `evictions` by reason; `dropped` and `replaced` are asked for, the others are not."""

    hits: int = 0
    misses: int = 0
    evictions: dict[Reason, int] = field(default_factory=lambda: {"bytes": 0, "idle": 0, "dropped": 0, "replaced": 0})


class SessionPool(Generic[V]):
    """An LRU of values by session key (`<tenant>/<session>`). Every method but `drop_where` is O(1), amortised.

    `clock_s`: a monotonic clock in seconds. `on_evict(key, value, reason)` is called for each value that leaves.
    """

    def __init__(
        self,
        max_bytes: int,
        idle_s: float,
        *,
        clock_s: Callable[[], float],
        on_evict: Callable[[str, V, Reason], None] | None = None,
    ) -> None:
        self.max_bytes = max_bytes
        self.idle_s = idle_s
        self.stats = PoolStats()
        self.bytes = 0
        self.pinned_bytes = 0
        self._clock_s = clock_s
        self._on_evict = on_evict
        self._resting: OrderedDict[str, _Warm[V]] = OrderedDict()
        self._busy: dict[str, _Warm[V]] = {}

    def __len__(self) -> int:
        return len(self._resting) + len(self._busy)

    def __contains__(self, key: str) -> bool:
        return key in self._resting or key in self._busy

    def __iter__(self) -> Iterator[str]:
        """The keys: least recently used first, then the pinned ones."""
        yield from self._resting
        yield from self._busy

    @property
    def over_budget(self) -> bool:
        """Pinned sessions alone need more than the budget."""
        return self.bytes > self.max_bytes

    def get(self, key: str) -> V | None:
        """The warm value, now the most recently used, or None: a hit or a miss. An idle one that is due is gone."""
        now_s = self._clock_s()
        self._expire(now_s)
        warm = self._busy.get(key)
        if warm is None:
            warm = self._resting.get(key)
            if warm is None:
                self.stats.misses += 1
                return None
            self._resting.move_to_end(key)
        warm.used_s = now_s
        self.stats.hits += 1
        return warm.value

    def peek(self, key: str) -> V | None:
        """The warm value without any effect: no hit, no miss, no use."""
        warm = self._busy.get(key) or self._resting.get(key)
        return warm.value if warm is not None else None

    def put(self, key: str, value: V, bytes_: int) -> None:
        """Keep `value`, which weighs about `bytes_`, or put it in the place of what is there (pins stay)."""
        now_s = self._clock_s()
        busy = self._busy.get(key)
        old = busy or self._resting.get(key)
        if old is not None:
            self._replace(key, old, value)
            self._weigh(old, bytes_)
            old.used_s = now_s
            if busy is None:
                self._resting.move_to_end(key)
        else:
            self._resting[key] = _Warm(value, bytes_, now_s)
            self.bytes += bytes_
        self.evict(now_s)

    def pin(self, key: str) -> bool:
        """Keep it until `unpin`; pins are counted. False: it is not here."""
        warm = self._busy.get(key)
        if warm is None:
            warm = self._resting.pop(key, None)
            if warm is None:
                return False
            self._busy[key] = warm
            self.pinned_bytes += warm.bytes
        warm.pins += 1
        return True

    def unpin(self, key: str) -> None:
        """Undo one `pin`; the last one makes it the most recently used of those that rest. Unknown keys are ignored
        (the session was dropped meanwhile)."""
        warm = self._busy.get(key)
        if warm is None:
            return
        warm.pins -= 1
        if warm.pins == 0:
            del self._busy[key]
            self.pinned_bytes -= warm.bytes
            warm.used_s = self._clock_s()
            self._resting[key] = warm
            self.evict(warm.used_s)

    def drop(self, key: str) -> V | None:
        """Remove it, pinned or not."""
        warm = self._busy.pop(key, None)
        if warm is not None:
            self.pinned_bytes -= warm.bytes
        else:
            warm = self._resting.pop(key, None)
        if warm is None:
            return None
        self._left(key, warm, "dropped")
        return warm.value

    def drop_where(self, matches: Callable[[str], bool]) -> int:
        """Remove every key that `matches`, pinned or not; how many. O(n)."""
        keys = [key for key in self if matches(key)]
        for key in keys:
            self.drop(key)
        return len(keys)

    def evict(self, now_s: float | None = None) -> int:
        """Remove what rests and is idle for too long or over the budget, oldest first; how many."""
        before = len(self)
        self._expire(self._clock_s() if now_s is None else now_s)
        while self.bytes > self.max_bytes and self._resting:
            key, warm = self._resting.popitem(last=False)
            self._left(key, warm, "bytes")
        return before - len(self)

    def _expire(self, now_s: float) -> None:
        while self._resting:
            key = next(iter(self._resting))
            warm = self._resting[key]
            if now_s - warm.used_s < self.idle_s:
                return
            del self._resting[key]
            self._left(key, warm, "idle")

    def _weigh(self, warm: _Warm[V], bytes_: int) -> None:
        self.bytes += bytes_ - warm.bytes
        if warm.pins:
            self.pinned_bytes += bytes_ - warm.bytes
        warm.bytes = bytes_

    def _replace(self, key: str, warm: _Warm[V], value: V) -> None:
        old, warm.value = warm.value, value
        if old is not value:
            self.stats.evictions["replaced"] += 1
            if self._on_evict is not None:
                self._on_evict(key, old, "replaced")

    def _left(self, key: str, warm: _Warm[V], reason: Reason) -> None:
        self.bytes -= warm.bytes
        self.stats.evictions[reason] += 1
        if self._on_evict is not None:
            self._on_evict(key, warm.value, reason)
