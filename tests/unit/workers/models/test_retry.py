"""Retries in virtual time: nothing here sleeps."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest

from schemas.codes import Code
from schemas.errors import RetryableError, TerminalError
from schemas.settings import ModelSettings
from workers.models.breaker import BreakerOpen, Standing
from workers.models.port import ModelChunk, ModelDone, ModelRateLimited, ModelRefused, ModelRequest, ModelUnavailable
from workers.models.retry import ModelCaller
from workers.models.scripted import Script, ScriptedModel

REQUEST = ModelRequest(session="s", turn="t", messages=())
GOOD = Script(("all ", "good"))
BROKEN = Script(("some", "thing"), cut_after=1)
BUSY = Script(error=ModelRateLimited("slow down", after_s=10.0))


class Desk:
    """A caller over a script, its clock, and what it told."""

    def __init__(
        self,
        *scripts: Script,
        attempts: int = 4,
        chance: float = 1.0,
        models: dict[str, Script] | None = None,
        **more: int,
    ) -> None:
        by_name = models or {}
        self.model = ScriptedModel(
            (lambda request: by_name[request.model or "first"]) if models else scripts, coalesce_s=0
        )
        self.counted: list[str] = []
        self.now_ms = 1_000_000.0
        self.waits: list[float] = []
        self.told: list[str] = []
        self.caller = ModelCaller(
            self.model,
            ModelSettings(
                **{"model_attempts": attempts, "model_retry_floor": 100, "model_breaker_failures": 100, **more}  # type: ignore[arg-type]
            ),
            clock_ms=lambda: self.now_ms,
            sleep=self.sleep,
            chance=lambda: chance,
        )
        self.caller.count = self.counted.append

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_ms += seconds * 1000

    def piece(self, chunk: ModelChunk) -> None:
        self.told.append(chunk.text)

    def again(self, error: RetryableError) -> None:
        self.told.append(f"again: {error.code}")

    @property
    def asked(self) -> list[str]:
        return [call.request.model or "first" for call in self.model.calls]

    async def ask(self, *fallbacks: str, left_s: float = 300.0) -> ModelDone:
        request = replace(REQUEST, fallbacks=fallbacks)
        return await self.caller.ask(
            request, piece=self.piece, again=self.again, deadline_ms=self.now_ms + left_s * 1000
        )


async def test_an_answer_at_once_needs_no_retry() -> None:
    desk = Desk(GOOD)
    assert (await desk.ask()).finish == "stop"
    assert ("".join(desk.told), desk.waits) == ("all good", [])


async def test_what_was_shown_is_declared_void_before_the_next_attempt() -> None:
    desk = Desk(BROKEN, GOOD)
    await desk.ask()
    assert desk.told[:2] == ["some", "again: model_error"]
    assert "".join(desk.told[2:]) == "all good"
    assert desk.waits == [0.5]


async def test_waits_double_with_full_jitter_and_the_last_error_is_raised() -> None:
    full, none = Desk(BROKEN), Desk(BROKEN, chance=0.0)
    for desk in (full, none):
        with pytest.raises(ModelUnavailable):
            await desk.ask()
        assert len(desk.model.calls) == 4
    assert (full.waits, none.waits) == ([0.5, 1.0, 2.0], [0.0, 0.0, 0.0])


async def test_the_random_part_of_a_wait_has_a_limit() -> None:
    desk = Desk(BROKEN, attempts=10)
    with pytest.raises(ModelUnavailable):
        await desk.ask()
    assert max(desk.waits) == 20.0


async def test_what_the_provider_asks_for_is_waited_for_whole() -> None:
    desk = Desk(BUSY, GOOD, chance=0.5)
    await desk.ask()
    assert desk.waits == [10.25]


async def test_no_wait_goes_beyond_the_deadline() -> None:
    desk = Desk(BUSY, GOOD)
    with pytest.raises(ModelRateLimited) as caught:
        await desk.ask(left_s=10.0)
    assert caught.value.after_s == 10.0
    assert (desk.waits, desk.told, len(desk.model.calls)) == ([], [], 1)


async def test_a_refusal_is_not_asked_again() -> None:
    desk = Desk(Script(error=ModelRefused("no", status=400)), GOOD)
    with pytest.raises(ModelRefused):
        await desk.ask()
    assert (len(desk.model.calls), desk.waits) == (1, [])


async def test_an_error_of_the_reader_is_not_asked_again_and_ends_the_call() -> None:
    desk = Desk(GOOD)

    def full(chunk: ModelChunk) -> None:
        raise ValueError(chunk.text)

    with pytest.raises(ValueError, match="all"):
        await desk.caller.ask(REQUEST, piece=full)
    assert (len(desk.model.calls), desk.model.in_flight) == (1, 0)


async def test_every_attempt_is_over_before_the_next_begins() -> None:
    desk = Desk(BROKEN, BUSY, GOOD)
    await desk.ask()
    assert desk.model.in_flight == 0
    assert [call.whole for call in desk.model.calls] == [False, False, True]


async def test_an_empty_budget_ends_the_call_at_once_with_its_own_error() -> None:
    desk = Desk(BUSY, model_retry_floor=0)
    with pytest.raises(ModelRateLimited) as caught:
        await desk.ask()
    assert (caught.value.code, caught.value.after_s) == (Code.MODEL_RATE_LIMITED, 10.0)
    assert (len(desk.model.calls), desk.waits, desk.told) == (1, [], [])
    assert desk.counted == ["model_retries_denied"]


async def test_no_retry_is_charged_that_will_not_be_made() -> None:
    desk = Desk(BUSY, model_retry_floor=3)
    with pytest.raises(ModelRateLimited):
        await desk.ask(left_s=10.0)
    assert round(desk.caller.budget.left, 1) == 3.0


async def test_only_first_attempts_that_succeed_earn_retries() -> None:
    desk = Desk(BROKEN, GOOD, model_retry_floor=5)
    await desk.ask()
    assert round(desk.caller.budget.left, 1) == 4.0
    await desk.ask()
    assert round(desk.caller.budget.left, 1) == 4.1


async def test_after_the_deadline_no_call_is_made() -> None:
    desk = Desk(GOOD)
    with pytest.raises(TerminalError) as caught:
        await desk.ask("other", left_s=0.0)
    assert (caught.value.code, desk.model.calls) == (Code.DEADLINE_EXCEEDED, [])


async def test_a_call_may_not_last_longer_than_its_turn() -> None:
    desk = Desk(GOOD)
    await desk.ask(left_s=7.0)
    limits = desk.model.calls[0].request.timeouts
    assert limits is not None
    assert (limits.total_s, limits.connect_s, limits.idle_s) == (7.0, 5.0, 30.0)


async def test_a_fallback_answers_when_the_first_model_is_given_up() -> None:
    desk = Desk(models={"first": BROKEN, "second": BUSY, "third": GOOD}, attempts=2)
    done = await desk.ask("second", "third")
    assert desk.asked == ["first", "first", "second", "second", "third"]
    assert (done.model, done.usage and done.usage.model) == ("third", "third")
    assert "".join(desk.told).endswith("again: model_rate_limitedall good")
    assert sum(text.startswith("again") for text in desk.told) == 4
    assert desk.counted == ["model_fallbacks", "model_fallbacks"]


async def test_a_fallback_answers_at_once_when_the_budget_is_empty() -> None:
    desk = Desk(models={"first": BUSY, "second": GOOD}, model_retry_floor=0)
    assert (await desk.ask("second")).model == "second"
    assert (desk.asked, desk.waits) == (["first", "second"], [])


async def test_a_fallback_answers_without_a_call_to_the_first_while_its_breaker_is_open() -> None:
    desk = Desk(models={"first": BUSY, "second": GOOD}, attempts=1, model_breaker_failures=2)
    for _ in range(4):
        assert (await desk.ask("second")).model == "second"
    assert desk.asked == ["first", "second", "first", "second", "second", "second"]


async def test_the_first_model_is_not_tried_again_once_its_breaker_opened() -> None:
    desk = Desk(models={"first": BUSY, "second": GOOD}, model_breaker_failures=2)
    await desk.ask("second")
    assert (desk.asked, len(desk.waits)) == (["first", "first", "second"], 1)


async def test_a_refusal_is_not_taken_to_a_fallback() -> None:
    desk = Desk(models={"first": Script(error=ModelRefused("no", status=400)), "second": GOOD})
    with pytest.raises(ModelRefused):
        await desk.ask("second")
    assert desk.asked == ["first"]


async def test_the_last_fallbacks_error_is_the_calls() -> None:
    desk = Desk(models={"first": BROKEN, "second": BUSY}, attempts=1)
    with pytest.raises(ModelRateLimited):
        await desk.ask("second")


async def test_an_open_breaker_ends_the_call_typed_without_a_call_and_is_not_tried_again() -> None:
    desk = Desk(BUSY, attempts=1, model_breaker_failures=1, model_breaker_wait_s=0)
    with pytest.raises(ModelRateLimited):
        await desk.ask()
    with pytest.raises(BreakerOpen, match="slow down") as caught:
        await desk.ask()
    assert (caught.value.code, len(desk.model.calls), desk.waits) == (Code.MODEL_RATE_LIMITED, 1, [])


async def test_refusals_and_errors_of_the_reader_open_no_breaker() -> None:
    refused = Desk(Script(error=ModelRefused("no", status=400)), model_breaker_failures=1)
    with pytest.raises(ModelRefused):
        await refused.ask()
    read = Desk(GOOD, model_breaker_failures=1)

    def full(chunk: ModelChunk) -> None:
        raise ValueError(chunk.text)

    with pytest.raises(ValueError, match="all"):
        await read.caller.ask(REQUEST, piece=full)
    assert [desk.caller.breakers.worst for desk in (refused, read)] == [Standing.CLOSED, Standing.CLOSED]


class Turn:
    """Who listens: holds all that a turn holds."""

    def piece(self, chunk: ModelChunk) -> None:
        """Nothing of it matters."""


@pytest.mark.parametrize("scripts", [(GOOD,), (BROKEN, GOOD)])
async def test_what_an_answered_call_held_waits_for_no_collector(
    scripts: tuple[Script, ...],
) -> None:
    desk, turn = Desk(*scripts, attempts=2), Turn()
    seen = weakref.ref(turn)
    gc.collect()
    gc.disable()
    try:
        await desk.caller.ask(REQUEST, piece=turn.piece, deadline_ms=desk.now_ms + 300_000)
        del turn
        assert seen() is None
    finally:
        gc.enable()
