"""What nobody told is estimated and says so: a cut try is in the receipt and in the budgets, never as zero."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schemas.errors import RetryableError
from schemas.frames import Usage
from schemas.history import ToolCall
from tests.support.stage import Stage, Told
from workers.agent import AgentTurn
from workers.context import Context
from workers.models.port import ModelChunk, ModelDone, ModelTimedOut, ModelUnavailable

SENT = 8 + 1  # a message's own, and two bytes


async def asks(turn: AgentTurn, ctx: Context) -> str:
    try:
        await ctx.model("hi", show=False, model="m")
    except RetryableError:
        return "cut"
    return "whole"


def guess(made: int, **more: Any) -> Usage:
    return Usage(**{"model": "m", "input_tokens": SENT, "output_tokens": made, "estimated": True, **more})


def with_usage(usage: Usage) -> ModelUnavailable:
    error = ModelUnavailable("cut")
    error.usage = usage
    return error


@pytest.mark.parametrize(
    ("script", "usage", "untold"),
    [
        (["Hello", ModelUnavailable("cut")], (guess(2),), 1),
        (["Hel", ModelChunk(reasoning="döner"), ModelTimedOut("idle", 30)], (guess(3),), 1),  # nine bytes
        ([ModelTimedOut("first_token", 60)], (guess(0),), 1),
        ([ModelTimedOut("connect", 5)], (), 0),
        ([ModelUnavailable("the provider answered 503")], (), 0),
        (
            ["Hello", with_usage(Usage(model="m", input_tokens=70, output_tokens=1, cached_input_tokens=5))],
            (guess(2, input_tokens=70, cached_input_tokens=5),),
            0,
        ),
        ([with_usage(Usage(model="m", input_tokens=70, output_tokens=9))], (guess(9, input_tokens=70),), 0),
        (["Hello", ModelDone(model="m")], (guess(2),), 1),
        ([ModelDone(model="m", calls=(ToolCall(call="c", name="pay", arguments={"eur": 5}),))], (guess(4),), 1),
    ],
)
async def test_a_try_that_told_not_all_is_estimated(script: list[Any], usage: tuple[Usage, ...], untold: int) -> None:
    result = await Stage(asks, Told(script), model_attempts=1).play()
    assert (result.usage, result.untold_calls) == (usage, untold)


async def test_each_try_is_booked_by_the_model_that_it_asked_and_apart_from_what_was_told() -> None:
    async def falls_back(turn: AgentTurn, ctx: Context) -> None:
        await ctx.model("hi", show=False, model="anthropic:a", fallbacks=("m",))

    whole = Usage(model="m", input_tokens=3, output_tokens=2)
    stage = Stage(
        falls_back, Told(["Hello", ModelUnavailable("cut")], ["Hel", ModelDone(usage=whole)]), model_attempts=1
    )
    result = await stage.play()
    assert result.usage == (guess(2, provider="anthropic", model="anthropic:a"), whole)
    assert stage.link.steps[0].usage == result.usage


async def test_a_call_that_is_cancelled_midway_is_booked() -> None:
    stage = Stage(asks, Told(["Hello", "…"]))
    running = stage.start()
    for _ in range(30):
        await asyncio.sleep(0)
    running.stop("user")
    for _ in range(30):
        await asyncio.sleep(0)
    assert stage.results[0].outcome == "cancelled"
    assert (stage.results[0].usage, stage.results[0].untold_calls) == ((guess(2),), 1)
