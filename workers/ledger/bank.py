"""What a worker checks and books of budgets: those of users and tenants lie in the store. Knows no model and no turn.

A settlement runs in a task of its own: whoever made the call goes on, or was cancelled. `settled` waits for them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from journal.port import Budgets, Cap, StoreUnavailable
from schemas.codes import Code
from schemas.errors import RetryableError
from schemas.receipt import Spending

_log = logging.getLogger("fleet.worker")
DAY_MS = 86_400_000
_GRACE_MS = 60_000


class Part(NamedTuple):
    """What is reserved under one key of the store."""

    scope: str
    key: str
    amount: Spending
    until_ms: int


class Bank:
    """One per worker. `caps`: by scope; `output_tokens`: of a call that says no `max_tokens`; `count`: told of refusals
    by scope."""

    def __init__(
        self,
        budgets: Budgets | None = None,
        caps: Mapping[str, Cap] | None = None,
        *,
        clock_ms: Callable[[], int] = lambda: 0,
        output_tokens: int = 4_096,
    ) -> None:
        self.caps = dict(caps or {})
        self.output_tokens = output_tokens
        self.count: Callable[[str], None] = lambda scope: None
        self._budgets = budgets
        self._clock_ms = clock_ms
        self._tasks: set[asyncio.Task[Any]] = set()

    async def reserve(
        self, tenant: str, user: str, amount: Spending, *, until_ms: int
    ) -> tuple[tuple[Part, ...], str | None]:
        """What is reserved of the user's and the tenant's day, and the scope that refused: then nothing is. Raises
        RetryableError(unavailable)."""
        day = self._clock_ms() // DAY_MS
        parts: list[Part] = []
        for scope, key in (("user", f"user/{tenant}/{user}/{day}"), ("day", f"day/{tenant}/{day}")):
            cap = self.caps.get(scope)
            if cap is None:
                continue
            part = Part(scope, key, amount, until_ms + _GRACE_MS)
            try:
                granted = await self._reserved(part, cap)
            except BaseException:
                self.settle(tuple(parts), Spending())
                raise
            if not granted:
                self.settle(tuple(parts), Spending())
                return (), scope
            parts.append(part)
        return tuple(parts), None

    def settle(self, parts: tuple[Part, ...], spent: Spending) -> None:
        """What was reserved has cost this."""
        for part in parts:
            self._spawn(self._settled(part, spent))

    async def settled(self) -> None:
        """Every settlement is in the store, or given up."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _reserved(self, part: Part, cap: Cap) -> bool:
        """Cancelled in the middle, it is done to its end and given back: an update that is torn is ambiguous."""
        assert self._budgets is not None
        asked = self._spawn(
            self._budgets.reserve(part.key, part.amount, cap, now_ms=self._clock_ms(), until_ms=part.until_ms)
        )
        try:
            return await asyncio.shield(asked)
        except StoreUnavailable as error:
            raise RetryableError(f"budgets cannot be read: {error}", code=Code.UNAVAILABLE) from error
        except asyncio.CancelledError:
            asked.add_done_callback(lambda done: self._give_back(done, part))
            raise

    def _give_back(self, asked: asyncio.Task[bool], part: Part) -> None:
        if not asked.cancelled() and asked.exception() is None and asked.result():
            self.settle((part,), Spending())

    async def _settled(self, part: Part, spent: Spending) -> None:
        assert self._budgets is not None
        try:
            await self._budgets.settle(part.key, part.amount, spent, until_ms=part.until_ms)
        except StoreUnavailable as error:  # not again: nobody knows whether it was done
            _log.warning("what a call cost is not in the budget %s: %s", part.key, error)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name="budget")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
