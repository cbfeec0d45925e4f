"""Agents of pydantic-ai: unchanged, durable call by call, whatever dies."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.tools import DeferredToolRequests
from pydantic_ai.toolsets import FunctionToolset

from fleet.testing import Lab, allows, asks, asks_many, says
from workers.adapters.pydantic_ai import pydantic_ai_agent
from workers.agent import AgentSpec, RegistrationError
from workers.tools.tool import ToolPolicy

DONE: list[str] = []


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    DONE.clear()


async def weather(city: str) -> str:
    """The weather in a city."""
    await asyncio.sleep(0.02 if city == "Oslo" else 0.01)  # the one asked for first ends last
    DONE.append(city)
    if city == "Atlantis":
        raise ModelRetry("no such city, try another")
    return f"rain in {city}"


def book(city: str, nights: int = 1) -> dict[str, Any]:
    """Book a room."""
    DONE.append(f"{city}/{nights}")
    return {"nights": nights, "city": city}


def fall() -> str:
    """Falls."""
    raise ValueError("it broke")


def travel(**more: Any) -> Agent[Any, Any]:
    agent = Agent(name="travel", **{"instructions": "Help.", **more})
    agent.tool_plain(weather)
    agent.tool_plain(requires_approval=True)(book)
    agent.tool_plain(fall)
    return agent


def spec(agent: Agent[Any, Any] | None = None, **more: Any) -> AgentSpec:
    return pydantic_ai_agent(agent or travel(), version="1", **more)


TRIP = (
    asks_many(asks("weather", city="Oslo"), asks("weather", city="Atlantis"), asks("fall"), text="Let me look. "),
    asks("weather", city="Rome"),
    asks("book", city="Rome"),
    says("It rains; I booked Rome.", usage=(50, 7)),
)


def test_a_turn_of_the_agent_is_steps_text_and_usage_of_ours() -> None:
    lab = Lab(spec(), model=[asks("weather", city="Oslo"), says("It rains.", usage=(20, 3))])
    seen = lab.turn("Oslo?")

    assert (seen.text, seen.shown) == ("It rains.", "It rains.")
    assert [step.rsplit("/")[-1] for step in seen.steps] == ["model", "weather", "model"]
    assert [(use.name, use.arguments) for use in seen.tools] == [("weather", {"city": "Oslo"})]
    assert [item.role for item in seen.messages] == ["user", "assistant", "tool", "assistant"]
    assert [request.system for request in seen.requests] == ["Help.", "Help."]
    assert {tool.name for tool in seen.requests[0].tools} == {"weather", "fall", "book"}
    assert seen.requests[1].messages[-1].text == "rain in Oslo"


def test_a_crash_anywhere_changes_nothing_and_repeats_nothing() -> None:
    lab = Lab(spec(), model=TRIP)
    points = lab.crash_everywhere("a trip", decisions=[allows()])

    assert lab.last is not None
    assert lab.last.text == "Let me look. It rains; I booked Rome."
    assert len(points) > 15
    assert sum(not point.unknown for point in points) > 10
    for point in points:
        if not point.unknown:
            assert point.outcome.usage == lab.last.usage, str(point)


def test_what_only_reads_is_called_again_and_its_outcome_is_never_unknown() -> None:
    reads = {name: ToolPolicy(read_only=True) for name in ("weather", "fall", "book")}
    lab = Lab(spec(policies=reads), model=TRIP)
    points = lab.crash_everywhere("a trip", decisions=[allows()])
    assert [point for point in points if point.unknown] == []


def test_a_call_that_needs_approval_waits_and_runs_with_the_arguments_that_were_allowed() -> None:
    lab = Lab(spec(), model=[asks("book", city="Rome"), says("Booked.")])
    seen = lab.turn("book")
    assert (seen.outcome, DONE) == ("suspended", [])
    assert seen.asks is not None
    assert (seen.asks.name, seen.asks.arguments) == ("book", {"city": "Rome"})

    assert lab.decide(arguments={"city": "Rome", "nights": 2}).text == "Booked."
    assert DONE == ["Rome/2"]


def test_a_call_that_was_denied_is_not_made_and_the_model_hears_of_it() -> None:
    lab = Lab(spec(), model=[asks("book", city="Rome"), says("Then not.")])
    lab.turn("book")
    seen = lab.decide(allow=False, note="too dear")
    assert (seen.text, DONE) == ("Then not.", [])
    assert "too dear" in seen.requests[-1].messages[-1].text


def test_a_tool_that_wants_another_try_and_arguments_that_do_not_fit_are_told_to_the_model() -> None:
    lab = Lab(
        spec(travel(retries=2)),
        model=[asks("weather", city="Atlantis"), asks("weather", town="Rome"), says("Nothing.")],
    )
    seen = lab.turn("go")
    told = [message.text for message in seen.requests[-1].messages if message.role == "tool"]
    assert "no such city" in told[0]
    assert "city" in told[1]
    assert [item.role for item in seen.messages] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]


def test_a_tool_that_wanted_one_try_too_many_ends_the_turn_wherever_its_worker_dies() -> None:
    lab = Lab(spec(), model=[asks("weather", city="Atlantis"), asks("weather", city="Atlantis"), says("Never said.")])
    lab.crash_everywhere("go")
    assert lab.last is not None
    assert (lab.last.outcome, lab.last.code) == ("failed", "agent_error")
    assert "exceeded max retries" in lab.last.message


def test_the_next_turn_knows_what_was_said_and_the_system_prompt_again() -> None:
    lab = Lab(spec(travel(system_prompt="Be kind.")), model=[asks("weather", city="Oslo"), says("Rain."), says("Yes.")])
    lab.turn("Oslo?")
    seen = lab.turn("sure?")
    (request,) = seen.requests
    assert request.system == "Be kind.\n\nHelp."
    assert [message.role for message in request.messages] == ["user", "assistant", "tool", "assistant", "user"]


def shout(text: str) -> str:
    """Shouts."""
    return text.upper()


class Trip(BaseModel):
    city: str
    nights: int


def test_a_structured_output_is_the_answers_data_and_its_call_is_answered() -> None:
    lab = Lab(
        spec(travel(output_type=Trip)),
        model=[asks("final_result", city="Rome"), asks("final_result", city="Rome", nights=2)],
    )
    points = lab.crash_everywhere("Rome")
    assert lab.last is not None
    assert lab.last.data == {"city": "Rome", "nights": 2}
    assert [item.role for item in lab.last.messages][:5] == ["user", "assistant", "tool", "assistant", "tool"]
    assert points


def test_instructions_that_change_are_kept() -> None:
    agent, told = travel(), iter(range(1000))

    @agent.instructions
    def count(ctx: RunContext[Any]) -> str:
        return f"number {next(told)}"

    lab = Lab(spec(agent), model=[asks("weather", city="Oslo"), says("Rain.")])
    points = lab.crash_everywhere("Oslo?")
    assert points


def test_what_cannot_be_made_durable_is_refused_with_a_sentence() -> None:
    class Other(FunctionToolset[Any]):
        pass

    with pytest.raises(RegistrationError, match="DeferredToolRequests"):
        spec(travel(output_type=[str, DeferredToolRequests]))
    with pytest.raises(RegistrationError, match="a policy names the tool 'no'"):
        spec(policies={"no": ToolPolicy()})
    with pytest.raises(RegistrationError, match="has no `id`"):
        agent = travel()

        @agent.toolset
        def dynamic(ctx: RunContext[Any]) -> FunctionToolset[Any]:
            return FunctionToolset()

        spec(agent)


def test_what_is_less_than_durable_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        spec(travel(model_settings={"top_p": 0.5}, output_type=[shout]))
    said = caplog.text
    assert "not passed on: top_p" in said
    assert "output functions" in said


@pytest.mark.parametrize("strategy", ["early", "graceful", "exhaustive"])
@pytest.mark.parametrize("first", [True, False])
def test_calls_beside_the_one_that_ends_the_turn_have_their_results(strategy: Any, first: bool) -> None:
    traveller = Agent(name="traveller", output_type=Trip, end_strategy=strategy)

    @traveller.tool_plain
    async def slow(n: int) -> str:
        """Slow."""
        await asyncio.sleep(n)
        return f"slow {n}"

    calls = [asks("final_result", city="Oslo", nights=1), asks("slow", n=5), asks("slow", n=1)]
    script = asks_many(*(calls if first else reversed(calls)))
    lab = Lab(pydantic_ai_agent(traveller, version="1", policies={"slow": ToolPolicy(read_only=True)}), model=[script])
    lab.crash_everywhere("go")

    asked = [call.call for item in lab.history for call in item.calls]
    assert lab.last is not None and (lab.last.outcome, len(asked)) == ("completed", 3), lab.last
    assert [item.call for item in lab.history if item.call] == asked
