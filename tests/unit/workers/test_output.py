"""An answer as a value: validated, repaired once, each try a step."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from fleet.testing import Lab, asks, says
from schemas.codes import Code
from schemas.errors import TerminalError
from schemas.history import said
from workers.agent import AgentTurn, agent
from workers.context import Context
from workers.models.openai_messages import body_of
from workers.models.port import ModelRequest, OutputSpec, ToolSpec
from workers.output import NotFitting, Output

CITY: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class City(BaseModel):
    city: str


def finder(wanted: Any, **params: Any) -> Any:
    @agent(name="finder", version="1")
    async def find(turn: AgentTurn, ctx: Context) -> str:
        answer = await ctx.model(output=wanted, **params)
        value = answer.data
        if answer.calls:
            return f"asks {answer.calls[0].name}"
        city = value.city if isinstance(value, City) else value["city"]
        return f"{city} of {sum(used.output_tokens for used in answer.usage)}"

    return find


@pytest.mark.parametrize("wanted", [CITY, City], ids=["schema", "model"])
def test_a_fitting_answer_is_the_value_and_is_not_shown(wanted: Any) -> None:
    lab = Lab(finder(wanted), model=[says('```json\n{"city": "Rome"}\n```', usage=(3, 4))])
    seen = lab.turn("where?")
    assert (seen.text, seen.shown) == ("Rome of 4", "Rome of 4")
    (request,) = seen.requests
    assert request.output is not None
    assert "fits this schema" in request.system


@pytest.mark.parametrize("wanted", [CITY, City], ids=["schema", "model"])
def test_one_that_does_not_fit_is_asked_for_once_more_wherever_the_worker_dies(wanted: Any) -> None:
    lab = Lab(finder(wanted), model=[says('{"town": 1}', usage=(3, 4)), says('{"city": "Rome"}', usage=(3, 5))])
    lab.crash_everywhere("where?")
    seen = lab.last
    assert seen is not None
    assert seen.text == "Rome of 9"
    assert [step.rsplit("/")[-1] for step in seen.steps] == ["model", "model"]
    told = seen.requests[-1].messages
    assert told[-2].text == '{"town": 1}'
    assert "city" in told[-1].text


def test_twice_is_a_typed_error() -> None:
    seen = Lab(finder(CITY), model=[says("Rome"), says("Rome!")]).turn("where?")
    assert (seen.outcome, seen.code) == ("failed", "model_error")
    assert "does not fit, twice" in seen.message


def test_a_call_of_a_tool_comes_before_the_value() -> None:
    lab = Lab(finder(CITY, tools=(ToolSpec("look"),)), model=[asks("look")])
    assert lab.turn("where?").text == "asks look"


def test_a_schema_that_is_none_is_the_agents_error() -> None:
    with pytest.raises(TerminalError) as caught:
        Output({"type": "no such type"})
    assert caught.value.code is Code.AGENT_ERROR


@pytest.mark.parametrize("text", ["", "Rome", "[]", '{"city": 1}', "{" * 100_000])
def test_what_is_read_fits(text: str) -> None:
    for wanted in (CITY, City):
        with pytest.raises(NotFitting):
            Output(wanted).read(text)


def test_the_format_is_told_to_a_server_that_knows_it() -> None:
    hi = said(item="t~0", turn="t", role="user", text="hi", at_ms=0)
    request = ModelRequest("s", "t", (hi,), output=OutputSpec("answer", CITY))
    assert b'"response_format":{"type":"json_schema"' in body_of(request, "m", with_usage=True)
    assert b"response_format" not in body_of(request, "m", with_usage=True, with_format=False)
