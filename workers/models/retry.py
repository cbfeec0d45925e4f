"""The one owner of retries of a model call. Knows which errors pass and when the turn must be over; no provider.

For each model of a request, in order: attempts while they may help, the budget allows them and the breaker is closed.
What is given up goes to the next model; the last error is the call's.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from schemas.codes import Code
from schemas.errors import RetryableError, TerminalError
from schemas.settings import ModelSettings, provider_of
from workers.models.breaker import BreakerOpen, BreakerRules, Standing, Timer
from workers.models.breakers import Breakers
from workers.models.budget import RetryBudget
from workers.models.places import Places
from workers.models.port import (
    Model,
    ModelChunk,
    ModelDone,
    ModelRefused,
    ModelRequest,
    ModelTimedOut,
    ModelUnavailable,
    Timeouts,
)
from workers.models.secrets import Secrets

_log = logging.getLogger("fleet.worker")

# The longest random part of a wait: before the second attempt, then doubled each time up to the most.
BASE_S = 0.5
MOST_S = 20.0
_WITHOUT_TOOLS = ("smollm",)

Sleep = Callable[[float], Awaitable[None]]
OnPiece = Callable[[ModelChunk], None]
OnAgain = Callable[[RetryableError], None]
OnAsked = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Call:
    """One model's turn to answer. `last`: no other model comes after it."""

    request: ModelRequest
    name: str
    last: bool
    piece: OnPiece
    again: OnAgain | None
    asked: OnAsked | None
    deadline_ms: float | None


class ModelCaller:
    """Asks a model until an answer is whole, `model_attempts` times at most. Waits with full jitter, on top of what the
    provider asks for. `budget` and `breakers` are the worker's; `count` is told what happens.
    Tests pass `clock_ms` (epoch), `sleep` and `chance` (0 to 1); budget and breakers go by the loop's clock.
    """

    def __init__(
        self,
        model: Model,
        settings: ModelSettings,
        *,
        clock_ms: Callable[[], float] = lambda: time.time() * 1000,
        sleep: Sleep = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.model = model
        self.default = settings.model
        self.attempts = settings.model_attempts
        self.timeouts = Timeouts.of(settings)
        self.count: Callable[[str], None] = lambda name: None
        self.budget = RetryBudget(
            share=settings.model_retry_share,
            window_s=settings.model_retry_window_s,
            floor=settings.model_retry_floor,
            clock_s=_loop_s,
        )
        rules = BreakerRules(
            failures=settings.model_breaker_failures,
            share=settings.model_breaker_share,
            window_s=settings.model_breaker_window_s,
            open_s=settings.model_breaker_open_s,
        )
        self.breakers = Breakers(rules, clock_s=_loop_s, call_later=_call_later)
        self.places = Places(settings.model_concurrency)
        self._secrets = Secrets(settings)
        self._tools = settings.model_tools
        self._wait_at_breaker_s = settings.model_breaker_wait_s
        self._clock_ms = clock_ms
        self._sleep = sleep
        self._chance = chance

    def takes_tools(self, model: str | None = None) -> bool:
        """Whether it knows what to do with tools; the small local one ignores them without a word."""
        name = model or self.default
        if provider_of(name) != "openai" or self._tools == "on":
            return True
        return self._tools == "auto" and not name.startswith(_WITHOUT_TOOLS)

    async def ask(
        self,
        request: ModelRequest,
        *,
        piece: OnPiece,
        again: OnAgain | None = None,
        asked: OnAsked | None = None,
        deadline_ms: float | None = None,
    ) -> ModelDone:
        """Hand each chunk to `piece` as it comes and return the end. Cancelling it ends the provider's work.

        `again(error)` is told ahead of the wait for the next attempt, and ahead of the next model: the chunks until
        then are void. `asked(model)` is told ahead of each try.
        Raises the last error when no attempt is left or none could begin before `deadline_ms` (epoch
        milliseconds), one that does not pass at once, and TerminalError(deadline_exceeded) when that moment is past.
        """
        models = (request.model, *request.fallbacks)
        for place, model in enumerate(models):
            one, last = replace(request, model=model, fallbacks=()), place == len(models) - 1
            call = _Call(one, model or self.default, last, piece, again, asked, deadline_ms)
            try:
                return await self._tried(call)
            except RetryableError as error:
                if last:
                    raise
                self._on_to(models[place + 1] or self.default, call, error)
        raise AssertionError("unreachable")

    def _on_to(self, model: str, call: _Call, error: RetryableError) -> None:
        """The next model takes over."""
        self.count("model_fallbacks")
        _log.warning("model %s is given up, %s takes over: %s", call.name, model, error)
        if call.again is not None:
            call.again(error)

    async def _tried(self, call: _Call) -> ModelDone:
        """One model, with retries."""
        retrying = AsyncRetrying(
            sleep=self._sleep,
            retry=retry_if_exception(_passes),
            wait=self._wait_s,
            stop=lambda state: self._stops(state, call),
            before_sleep=lambda state: _tell(state, call.again),
            reraise=True,
        )
        try:
            done: ModelDone = await retrying(self._once, call)
        finally:
            retrying.iter_state.actions.clear()  # they hold it, and with it the whole turn, until the collector comes
        if retrying.statistics["attempt_number"] == 1:
            self.budget.earn()
        return done

    async def _once(self, call: _Call) -> ModelDone:
        """One attempt: admitted by the breaker, which is told how it ended."""
        left_s = self._left_s(call)
        breaker = self.breakers.of(call.name)
        period = await breaker.enter(min(self._wait_at_breaker_s, left_s) if call.last else 0.0)
        error: BaseException | None = None
        try:
            return await self._placed(call, left_s)
        except ModelRefused:
            raise  # the provider is there
        except BaseException as raised:
            error = raised
            raise
        finally:
            breaker.ended(period, error, passes=_passes(error))
            error = None  # it knows this frame

    async def _placed(self, call: _Call, left_s: float) -> ModelDone:
        """With a place at the provider, for which it waits until the turn must be over; its time-outs begin then."""
        if not self.places.free(call.name):
            self.count("model_waits")
        try:
            async with asyncio.timeout(left_s if left_s != float("inf") else None) as limit, self.places.one(call.name):
                limit.reschedule(None)
                return await self._answered(call)
        except TimeoutError:
            if limit.expired():
                raise _too_late("while a model call waited for its place at the provider") from None
            raise

    async def _answered(self, call: _Call) -> ModelDone:
        left_s = self._left_s(call)
        limits = call.request.timeouts or self.timeouts
        capped = left_s < limits.total_s
        request = replace(call.request, timeouts=replace(limits, total_s=left_s)) if capped else call.request
        if call.asked is not None:
            call.asked(call.name)
        try:
            async with self.model.stream(request) as pieces:
                async for piece in pieces:
                    if isinstance(piece, ModelDone):
                        return piece
                    call.piece(piece)
        except (RetryableError, TerminalError) as error:
            self._secrets.clean(error)
            if capped and isinstance(error, ModelTimedOut) and error.limit == "total":
                raise _too_late("during a model call") from error
            raise
        raise ModelUnavailable("the model's stream ended without an end")

    def _left_s(self, call: _Call) -> float:
        """Seconds until the turn must be over. Raises TerminalError(deadline_exceeded)."""
        if call.deadline_ms is None:
            return float("inf")
        left_s = (call.deadline_ms - self._clock_ms()) / 1000
        if left_s <= 0:
            raise _too_late("before a model call")
        return left_s

    def _wait_s(self, state: RetryCallState) -> float:
        limit_s: float = min(BASE_S * 2.0 ** (state.attempt_number - 1), MOST_S)
        error = _error(state)
        return ((error.after_s if error else None) or 0.0) + self._chance() * limit_s

    def _stops(self, state: RetryCallState, call: _Call) -> bool:
        """Asked once after each failure. The budget is charged last: only for an attempt that will be made."""
        if state.attempt_number >= self.attempts:
            return True
        if call.deadline_ms is not None and self._clock_ms() + state.upcoming_sleep * 1000 >= call.deadline_ms:
            return True
        if not call.last and self.breakers.of(call.name).standing is not Standing.CLOSED:
            return True
        if self.budget.take():
            return False
        self.count("model_retries_denied")
        return True


def _loop_s() -> float:
    return asyncio.get_running_loop().time()


def _call_later(seconds: float, call: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(seconds, call)


def _passes(error: BaseException | None) -> bool:
    return isinstance(error, RetryableError) and not isinstance(error, BreakerOpen)


def _too_late(when: str) -> TerminalError:
    return TerminalError(Code.DEADLINE_EXCEEDED, f"the deadline passed {when}")


def _error(state: RetryCallState) -> RetryableError | None:
    error = state.outcome.exception() if state.outcome is not None else None
    return error if isinstance(error, RetryableError) else None


def _tell(state: RetryCallState, again: OnAgain | None) -> None:
    error = _error(state)
    if again is not None and error is not None:
        again(error)
