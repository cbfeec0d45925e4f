"""Refuses turns while the queue of their partition is too old. Must not touch a turn that was accepted once."""

from __future__ import annotations

from collections.abc import Callable

from gateway.event import TurnKey
from gateway.metrics import Metrics
from gateway.waiting import Waiting
from schemas.codes import Code
from schemas.errors import Refusal

_PROBE_S = 1.0
_LONGEST_S = 60.0


class Overloaded(Refusal):
    """Nothing was published. `retry_after_ms`: about how long the queue takes to shrink."""

    def __init__(self, age_s: float, retry_after_s: float) -> None:
        super().__init__(Code.OVERLOADED, f"turns wait for {age_s:.0f} s already: try again in {retry_after_s:.0f} s")
        self.retry_after_ms = int(retry_after_s * 1_000)


class Overload:
    """Refuses from an age of `limit_s` on until it is below half of that; 0: never.

    Meanwhile one turn a second and partition is let through: if it begins, the queue is not as old as it looked.
    """

    def __init__(self, waiting: Waiting, *, limit_s: float, clock_s: Callable[[], float], metrics: Metrics) -> None:
        self.waiting = waiting
        self._limit_s = limit_s
        self._clock_s = clock_s
        self._metrics = metrics
        self._refusing: dict[int, float] = {}

    def require_room(self, key: TurnKey, partition: int) -> None:
        """Let a turn pass, or raise Overloaded. A turn that is sent again passes while it is not over."""
        if not self._limit_s or key in self.waiting:
            return
        age_s, now_s = self.waiting.age_s(partition), self._clock_s()
        if age_s < (self._limit_s / 2 if partition in self._refusing else self._limit_s):
            self._refusing.pop(partition, None)
        elif now_s - self._refusing.get(partition, -_PROBE_S) >= _PROBE_S:
            self._refusing[partition] = now_s
        else:
            self._metrics.overloaded.inc()
            raise Overloaded(age_s, self._drained_s(age_s))

    def _drained_s(self, age_s: float) -> float:
        """All that waits came within `age_s` and goes at the pace at which it went till now: so it is gone after about
        as long, and half of the limit may be left."""
        return min(_LONGEST_S, max(1.0, age_s - self._limit_s / 2))
