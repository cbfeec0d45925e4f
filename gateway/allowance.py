"""How fast a connection may speak: a bucket of tokens. The clock is passed in."""

from __future__ import annotations


class Allowance:
    """`burst` at once, `per_s` sustained."""

    __slots__ = ("_burst", "_per_s", "_seen_s", "_tokens")

    def __init__(self, *, per_s: float, burst: int, now_s: float) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._tokens = float(burst)
        self._seen_s = now_s

    def take(self, now_s: float) -> bool:
        """Whether one more is allowed now."""
        self._tokens = min(self._burst, self._tokens + (now_s - self._seen_s) * self._per_s)
        self._seen_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    @property
    def wait_ms(self) -> int:
        """Until the next one is allowed."""
        return max(1, int((1 - self._tokens) / self._per_s * 1_000) + 1)
