"""The one owner of retries of a model call. Knows which errors pass and when the turn must be over; no provider."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from schemas.errors import RetryableError
from schemas.settings import ModelSettings
from workers.models.port import Model, ModelChunk, ModelDone, ModelRequest, ModelUnavailable

# The longest random part of a wait: before the second attempt, then doubled each time up to the most.
BASE_S = 0.5
MOST_S = 20.0

Sleep = Callable[[float], Awaitable[None]]
OnPiece = Callable[[ModelChunk], None]
OnAgain = Callable[[RetryableError], None]


class ModelCaller:
    """Asks a model until an answer is whole, `model_attempts` times at most. Waits with full jitter, on top of what the
    provider asks for. Tests pass `clock_ms` (epoch), `sleep` and `chance` (0 to 1).
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
        self.attempts = settings.model_attempts
        self._clock_ms = clock_ms
        self._sleep = sleep
        self._chance = chance

    async def ask(
        self,
        request: ModelRequest,
        *,
        piece: OnPiece,
        again: OnAgain | None = None,
        deadline_ms: float | None = None,
    ) -> ModelDone:
        """Hand each chunk to `piece` as it comes and return the end. Cancelling it ends the provider's work.

        `again(error)` is told ahead of the wait for the next attempt: the chunks until then are void. Raises the last
        error when no attempt is left or none could begin before `deadline_ms` (epoch milliseconds), and one that does
        not pass at once.
        """
        retrying = AsyncRetrying(
            sleep=self._sleep,
            retry=retry_if_exception_type(RetryableError),
            wait=self._wait_s,
            stop=lambda state: self._stops(state, deadline_ms),
            before_sleep=lambda state: _tell(state, again),
            reraise=True,
        )
        done: ModelDone = await retrying(self._once, request, piece)
        return done

    async def _once(self, request: ModelRequest, on_piece: OnPiece) -> ModelDone:
        async with self.model.stream(request) as pieces:
            async for piece in pieces:
                if isinstance(piece, ModelDone):
                    return piece
                on_piece(piece)
        raise ModelUnavailable("the model's stream ended without an end")

    def _wait_s(self, state: RetryCallState) -> float:
        limit_s: float = min(BASE_S * 2.0 ** (state.attempt_number - 1), MOST_S)
        error = _error(state)
        return ((error.after_s if error else None) or 0.0) + self._chance() * limit_s

    def _stops(self, state: RetryCallState, deadline_ms: float | None) -> bool:
        if state.attempt_number >= self.attempts:
            return True
        return deadline_ms is not None and self._clock_ms() + state.upcoming_sleep * 1000 >= deadline_ms


def _error(state: RetryCallState) -> RetryableError | None:
    error = state.outcome.exception() if state.outcome is not None else None
    return error if isinstance(error, RetryableError) else None


def _tell(state: RetryCallState, again: OnAgain | None) -> None:
    error = _error(state)
    if again is not None and error is not None:
        again(error)
