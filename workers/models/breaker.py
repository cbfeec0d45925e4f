"""Stops calls to a provider that keeps failing, until one call shows that it is back. Knows no model and no turn.

Closed: calls go through and are counted. Open: none goes through for a while. Half open: one goes through and decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from schemas.codes import Code
from schemas.errors import RetryableError

_log = logging.getLogger("fleet.worker")
_MOST_OPEN_S = 60.0


class Timer(Protocol):
    """What `call_later` gives."""

    def cancel(self) -> None: ...


CallLater = Callable[[float, Callable[[], None]], Timer]


class Standing(IntEnum):
    """As the metric shows it."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class BreakerOpen(RetryableError):
    """No call was made: the provider kept failing. `code`: of its last failure; `after_s`: until it is tried again."""


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """Opens after `failures` in a row, or when `share` of at least twice as many calls failed, within `window_s`.

    `open_s`: how long at least; a provider's Retry-After makes it longer, up to a minute.
    """

    failures: int = 5
    share: float = 0.5
    window_s: float = 10.0
    open_s: float = 5.0


class Breaker:
    """One provider's. `changed` is told when calls may go through that could not before, or the other way."""

    def __init__(
        self,
        name: str,
        rules: BreakerRules,
        *,
        clock_s: Callable[[], float],
        call_later: CallLater,
        changed: Callable[[Breaker], None],
    ) -> None:
        self.name = name
        self.standing = Standing.CLOSED
        self._rules = rules
        self._clock_s = clock_s
        self._call_later = call_later
        self._changed = changed
        self._period = 0
        self._calls: deque[tuple[float, bool]] = deque()
        self._failed = 0
        self._row = 0
        self._probing = False
        self._invited = False
        self._until_s = 0.0
        self._last = RetryableError("")
        self._timer: Timer | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()

    def lets_in(self) -> bool:
        """Whether a turn that will call may begin: half open, one every `open_s`."""
        if self.standing is not Standing.HALF_OPEN:
            return self.standing is Standing.CLOSED
        if self._probing or self._invited:
            return False
        self._invited = True
        return True

    async def enter(self, wait_s: float) -> int:
        """Return when a call may be made; what it returns goes to `ended`. Raises BreakerOpen after `wait_s`."""
        if (period := self._admitted()) is not None:
            return period
        if wait_s <= 0:
            raise self._refusal()
        try:
            async with asyncio.timeout(wait_s):
                while (period := self._admitted()) is None:
                    await self._news()
        except TimeoutError:
            raise self._refusal() from None
        return period

    def ended(self, period: int, error: BaseException | None, *, passes: bool) -> None:
        """A call that entered is over. `error` None: the provider answered; `passes`: it is the provider's failure.

        Other errors (cancelled, a reader's own) say nothing about the provider. What began in an earlier period, too.
        """
        if period != self._period:
            return
        failed = isinstance(error, RetryableError) and passes
        if self.standing is Standing.HALF_OPEN:
            self._probing = False
            if failed:
                self._open(error)
            elif error is None:
                self._close()
            else:
                self._invite()
        elif failed or error is None:
            self._count(failed=failed)
            if failed and self._too_many():
                self._open(error)

    def _admitted(self) -> int | None:
        if self.standing is Standing.OPEN or self._probing:
            return None
        self._probing = self.standing is Standing.HALF_OPEN
        return self._period

    async def _news(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _count(self, *, failed: bool) -> None:
        now_s = self._clock_s()
        self._calls.append((now_s, failed))
        self._failed += failed
        self._row = self._row + 1 if failed else 0
        while self._calls[0][0] <= now_s - self._rules.window_s:
            self._failed -= self._calls.popleft()[1]

    def _too_many(self) -> bool:
        rules, calls = self._rules, len(self._calls)
        in_a_row = min(self._row, self._failed) >= rules.failures
        return in_a_row or (calls >= 2 * rules.failures and self._failed >= rules.share * calls)

    def _open(self, error: BaseException | None) -> None:
        self._last = error if isinstance(error, RetryableError) else self._last
        pause_s = max(self._rules.open_s, min(self._last.after_s or 0.0, _MOST_OPEN_S))
        self._until_s = self._clock_s() + pause_s
        _log.warning("model %s takes no calls for %.1f s: %s", self.name, pause_s, self._last)
        self._turn(Standing.OPEN)
        self._set_timer(pause_s, self._half_open)

    def _half_open(self) -> None:
        self._turn(Standing.HALF_OPEN)
        self._invite()

    def _invite(self) -> None:
        """Have one call made: by whoever waits here, else by a turn that may begin. If none comes, ask again."""
        if self.standing is Standing.HALF_OPEN and not self._probing:
            self._invited = bool(self._waiters)
            self._wake(1)
            self._changed(self)
            self._set_timer(self._rules.open_s, self._invite)

    def _close(self) -> None:
        self._calls.clear()
        self._failed = self._row = 0
        _log.warning("model %s answers again", self.name)
        self._turn(Standing.CLOSED)
        self._set_timer(0.0, None)
        self._wake(len(self._waiters))

    def _turn(self, standing: Standing) -> None:
        self.standing = standing
        self._period += 1
        self._probing = self._invited = False
        if standing is not Standing.HALF_OPEN:
            self._changed(self)

    def _wake(self, count: int) -> None:
        while count > 0 and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1

    def _set_timer(self, seconds: float, call: Callable[[], None] | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._call_later(seconds, call) if call is not None else None

    def _refusal(self) -> BreakerOpen:
        left_s = max(self._until_s - self._clock_s(), 0.0)
        limited = self._last.code is Code.MODEL_RATE_LIMITED
        what = "limits the rate" if limited else "keeps failing"
        text = f"model {self.name}: its provider {what}, no call was made; the last failure: {self._last}"
        return BreakerOpen(text, code=self._last.code, after_s=left_s)
