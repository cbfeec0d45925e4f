"""`chat` asks the model once, with what stays the same first."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from schemas.codes import Code
from schemas.turn import TurnInput
from tests.support.stage import INFO, Stage, Told, past
from workers.agents.chat import INSTRUCTIONS, Chat, spec
from workers.models.port import ModelDone


async def test_system_history_and_input_in_this_order() -> None:
    model = Told(["Fine."])
    stage = Stage(await spec().build(spec(), INFO), model, history=past("Hello", "Hi!"), given=TurnInput(text="How?"))
    result = await stage.play()
    (request,) = model.requests
    assert request.system == INSTRUCTIONS
    assert [(item.role, item.text) for item in request.messages] == [
        ("user", "Hello"),
        ("assistant", "Hi!"),
        ("user", "How?"),
    ]
    assert (request.model, request.temperature, request.max_tokens) == (None, None, None)
    assert (result.text, result.finish) == ("Fine.", "stop")


async def test_the_messages_of_a_turn_are_a_prefix_of_those_of_the_next() -> None:
    model = Told(["A"], ["B"])
    first = Stage(Chat(), model, history=past("one", "two"), given=TurnInput(text="three"))
    result = await first.play()
    history = [*first.job.history, model.requests[0].messages[-1], *result.history]
    await Stage(Chat(), model, history=history, given=TurnInput(text="four")).play()
    before, after = (list(request.messages) for request in model.requests)
    assert after[: len(before)] == before


async def test_how_the_model_ended_is_how_the_turn_ended() -> None:
    result = await Stage(Chat(), Told(["cut sho", ModelDone("length")])).play()
    assert (result.finish, [usage.estimated for usage in result.usage]) == ("length", [True])


async def test_options_reach_the_model() -> None:
    model = Told(["ok"])
    options: dict[str, JsonValue] = {"instructions": "Be a pirate.", "temperature": 0, "max_tokens": 5}
    await Stage(Chat(model="big"), model, given=TurnInput(text="hi", options=options)).play()
    (request,) = model.requests
    assert (request.system, request.temperature, request.max_tokens) == ("Be a pirate.", 0, 5)
    assert request.model == "big"
    assert spec().options == set(options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"instructions": 7}, "options.instructions: want a text"),
        ({"temperature": "hot"}, "options.temperature: want a number from 0 to 2"),
        ({"temperature": True}, "options.temperature: want a number from 0 to 2"),
        ({"temperature": 3}, "options.temperature: want a number from 0 to 2"),
        ({"max_tokens": 0}, "options.max_tokens: want a number from 1 to 1e+06"),
    ],
)
async def test_options_of_the_wrong_kind_fail_the_turn(options: dict[str, JsonValue], message: str) -> None:
    model = Told()
    result = await Stage(Chat(), model, given=TurnInput(text="hi", options=options)).play()
    assert (result.code, result.message, model.requests) == (Code.BAD_REQUEST, message, [])


async def test_a_model_that_says_nothing_fails_the_turn() -> None:
    result = await Stage(Chat(), Told([ModelDone()])).play()
    assert (result.outcome, result.code) == ("failed", Code.AGENT_ERROR)
