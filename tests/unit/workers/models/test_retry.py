"""Retries in virtual time: nothing here sleeps."""

from __future__ import annotations

import pytest

from schemas.errors import RetryableError
from schemas.settings import ModelSettings
from workers.models.port import ModelChunk, ModelDone, ModelRateLimited, ModelRefused, ModelRequest, ModelUnavailable
from workers.models.retry import ModelCaller
from workers.models.scripted import Script, ScriptedModel

REQUEST = ModelRequest(session="s", turn="t", messages=())
GOOD = Script(("all ", "good"))
BROKEN = Script(("some", "thing"), cut_after=1)
BUSY = Script(error=ModelRateLimited("slow down", after_s=10.0))


class Desk:
    """A caller over a script, its clock, and what it told."""

    def __init__(self, *scripts: Script, attempts: int = 4, chance: float = 1.0) -> None:
        self.model = ScriptedModel(scripts, coalesce_s=0)
        self.now_ms = 1_000_000.0
        self.waits: list[float] = []
        self.told: list[str] = []
        self.caller = ModelCaller(
            self.model,
            ModelSettings(model_attempts=attempts, model_retry_floor=100, model_breaker_failures=100),
            clock_ms=lambda: self.now_ms,
            sleep=self.sleep,
            chance=lambda: chance,
        )

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_ms += seconds * 1000

    def piece(self, chunk: ModelChunk) -> None:
        self.told.append(chunk.text)

    def again(self, error: RetryableError) -> None:
        self.told.append(f"again: {error.code}")

    async def ask(self, *, left_s: float = 300.0) -> ModelDone:
        return await self.caller.ask(
            REQUEST, piece=self.piece, again=self.again, deadline_ms=self.now_ms + left_s * 1000
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
