"""How many retries a worker may still make: a share of what succeeds, and a small floor. Knows no model and no wait.

While a provider fails, nothing succeeds and nothing is earned: what is left is spent once, then calls fail at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

# Ten tenths are one.
_ONE = 1.0 - 1e-9


class RetryBudget:
    """Every first attempt that succeeds earns `share` of a retry, which fades within about `window_s`: so at most
    `share` of the calls of a window are ever saved up. `floor` retries are there in any case, refilled over a minute,
    for a worker that has little to do. `clock_s`: monotonic.
    """

    __slots__ = ("_clock_s", "_earned", "_floor", "_seen_s", "_spare", "share", "window_s")

    def __init__(self, *, share: float, window_s: float, floor: int, clock_s: Callable[[], float]) -> None:
        self.share = share
        self.window_s = window_s
        self._floor = floor
        self._clock_s = clock_s
        self._seen_s: float | None = None
        self._earned = 0.0
        self._spare = float(floor)

    @property
    def left(self) -> float:
        """Retries that may be made now."""
        self._pass_time()
        return self._earned + self._spare

    def earn(self) -> None:
        """A first attempt succeeded."""
        self._pass_time()
        self._earned += self.share

    def take(self) -> bool:
        """Spend one retry; False: the budget is empty."""
        self._pass_time()
        if self._earned >= _ONE:
            self._earned = max(self._earned - 1.0, 0.0)
        elif self._earned + self._spare >= _ONE:
            self._spare = max(self._spare + self._earned - 1.0, 0.0)
            self._earned = 0.0
        else:
            return False
        return True

    def _pass_time(self) -> None:
        now_s = self._clock_s()
        passed_s = now_s - self._seen_s if self._seen_s is not None else 0.0
        self._seen_s = now_s
        if passed_s > 0:
            self._earned *= math.exp(-passed_s / self.window_s)
            self._spare = min(self._spare + self._floor * passed_s / 60.0, float(self._floor))
