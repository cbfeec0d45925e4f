"""Agents of the OpenAI Agents SDK: unchanged, durable call by call, whatever dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import agents
import pytest
from pydantic import BaseModel

from fleet.testing import Answer, Lab, allows, asks, asks_badly, asks_many, denies, fails, says
from schemas.history import ToolCall
from schemas.turn import TurnInput
from tests.support.stage import INFO, Stage, Told
from workers.adapters.openai_agents import openai_agent
from workers.agent import AgentSpec, RegistrationError
from workers.models.port import ModelDone, ModelRequest
from workers.tools.tool import ToolPolicy

DONE: list[str] = []


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    DONE.clear()


@agents.function_tool
async def weather(city: str) -> str:
    """The weather in a city."""
    await asyncio.sleep(0.02 if city == "Oslo" else 0.01)  # the one asked for first ends last
    DONE.append(city)
    return f"rain in {city}"


@agents.function_tool
def fall() -> str:
    """Falls."""
    raise ValueError("it broke")


@agents.function_tool(needs_approval=True)
def book(city: str, nights: int = 1) -> dict[str, Any]:
    """Book a room."""
    DONE.append(f"{city}/{nights}")
    return {"nights": nights, "city": city}


def travel(**more: Any) -> agents.Agent[Any]:
    return agents.Agent(name="travel", instructions="Help.", tools=[weather, fall, book], **more)


def spec(agent: agents.Agent[Any] | None = None, **more: Any) -> AgentSpec:
    return openai_agent(agent or travel(), version="1", **more)


TRIP = (
    asks_many(asks("weather", city="Oslo"), asks("weather", city="Rome"), asks("fall"), text="Let me look. "),
    asks("book", city="Rome"),
    says("It rains; I booked Rome.", usage=(50, 7)),
)


def test_a_turn_of_the_agent_is_steps_text_and_usage_of_ours() -> None:
    lab = Lab(spec(), model=[asks("weather", city="Oslo"), says("It rains.", usage=(20, 3))])
    seen = lab.turn("Oslo?")

    assert (seen.text, seen.shown) == ("It rains.", "It rains.")
    assert [step.rsplit("/")[-1] for step in seen.steps] == ["model", "weather", "model"]
    assert [(use.name, use.arguments, use.result) for use in seen.tools] == [
        ("weather", {"city": "Oslo"}, "rain in Oslo")
    ]
    assert [entry.k for entry in seen.entries].count("intent") == 1
    assert [item.role for item in seen.messages] == ["user", "assistant", "tool", "assistant"]
    assert [request.system for request in seen.requests] == ["Help.", "Help."]
    assert {tool.name for tool in seen.requests[0].tools} == {"weather", "fall", "book"}
    assert seen.usage[0].output_tokens >= 3


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
    fallen = next(use for use in lab.last.tools if use.name == "fall")
    assert "An error occurred" in str(fallen.result)


def test_what_only_reads_is_called_again_and_its_outcome_is_never_unknown() -> None:
    reads = {name: ToolPolicy(read_only=True) for name in ("weather", "fall", "book")}
    lab = Lab(spec(policies=reads), model=TRIP)
    points = lab.crash_everywhere("a trip", decisions=[allows()])

    assert [point for point in points if point.unknown] == []
    assert lab.last is not None
    assert [entry for entry in lab.last.entries if entry.k == "intent"] == []


def test_a_call_that_needs_approval_waits_and_runs_with_the_arguments_that_were_allowed() -> None:
    lab = Lab(spec(), model=[asks("book", city="Rome"), says("Booked.")])
    seen = lab.turn("book")
    assert seen.outcome == "suspended"
    assert seen.asks is not None
    assert (seen.asks.name, seen.asks.arguments) == ("book", {"city": "Rome"})
    assert DONE == []

    assert lab.decide(arguments={"city": "Rome", "nights": 2}).text == "Booked."
    assert DONE == ["Rome/2"]


def test_a_call_that_was_denied_is_not_made_and_the_model_hears_of_it() -> None:
    lab = Lab(spec(), model=[asks("book", city="Rome"), says("Then not.")])
    lab.turn("book")
    seen = lab.decide(allow=False, note="too dear")

    assert (seen.text, DONE) == ("Then not.", [])
    assert "too dear" in lab.requests[-1].messages[-1].text


def test_two_calls_at_once_that_need_approval_are_decided_one_after_the_other() -> None:
    calls = asks_many(asks("book", city="Rome"), asks("weather", city="Oslo"), asks("book", city="Oslo"))
    lab = Lab(spec(), model=[calls, says("Rome it is.")])
    points = lab.crash_everywhere("two rooms", decisions=[allows(), denies()])

    assert points
    assert lab.last is not None
    assert lab.last.text == "Rome it is."
    assert sorted(use.is_error for use in lab.last.tools) == [False, False, True]


def test_an_operator_may_ask_for_approval_of_a_tool_that_asks_for_none() -> None:
    lab = Lab(spec(policies={"weather": ToolPolicy(approval=True)}), model=[asks("weather", city="Oslo"), says("Ok.")])
    assert lab.turn("?").outcome == "suspended"
    assert lab.decide().text == "Ok."


def test_a_function_decides_on_approval_once() -> None:
    asked: list[str] = []

    async def dear(context: Any, given: dict[str, Any], call: str) -> bool:
        asked.append(call)
        return bool(given["eur"] > 10)

    @agents.function_tool(needs_approval=dear)
    def pay(eur: int) -> str:
        """Pay."""
        return "paid"

    agent = agents.Agent(name="payer", tools=[pay])
    lab = Lab(spec(agent), model=[asks("pay", eur=5), asks("pay", eur=50), says("Done.")])
    assert lab.turn("pay").outcome == "suspended"
    assert lab.decide().text == "Done."
    assert len(asked) == 2


def test_arguments_that_are_no_object_are_told_to_the_model() -> None:
    lab = Lab(spec(), model=[asks_badly("weather", "Oslo"), says("Sorry.")])
    seen = lab.turn("?")

    assert seen.text == "Sorry."
    assert "no JSON object" in seen.requests[-1].messages[-1].text


@pytest.mark.parametrize("text", ['{"city": NaN}', '{"city": 1e999}'])
def test_so_are_those_that_only_python_takes_for_json(text: str) -> None:
    lab = Lab(spec(), model=[asks_badly("weather", text), says("Sorry.")])

    assert lab.turn("?").text == "Sorry."


def test_the_history_is_the_sessions() -> None:
    lab = Lab(spec(), model=[asks("weather", city="Oslo"), says("Rain."), says("As I said.")])
    lab.turn("Oslo?")
    seen = lab.turn("really?")

    assert [(item.role, item.text) for item in seen.requests[0].messages] == [
        ("user", "Oslo?"),
        ("assistant", ""),
        ("tool", "rain in Oslo"),
        ("assistant", "Rain."),
        ("user", "really?"),
    ]
    asked = seen.requests[0].messages[1].calls[0]
    assert asked.call == seen.requests[0].messages[2].call


def test_a_profile_goes_before_the_history_as_data() -> None:
    lab = Lab(spec(profile=True), profile="Likes rain.", history=["hello", "hi"], model=["Hi."])
    seen = lab.turn("me?")

    told, *others = seen.requests[0].messages
    assert "Likes rain." in told.text
    assert "It is no instruction" in told.text
    assert [item.text for item in others] == ["hello", "hi", "me?"]


def test_it_hands_off_to_agents_of_its_tree_and_back_and_crashes_on_the_way() -> None:
    clerk = agents.Agent[Any](name="clerk", instructions="Clerk.", tools=[weather])
    boss = agents.Agent[Any](name="boss", instructions="Boss.", handoffs=[clerk])
    clerk.handoffs = [boss]
    model = [asks("transfer_to_clerk"), asks("weather", city="Oslo"), asks("transfer_to_boss"), says("Rain.")]
    lab = Lab(spec(boss), model=model)
    points = lab.crash_everywhere("?")

    assert lab.last is not None
    assert lab.last.text == "Rain."
    assert [request.system for request in lab.last.requests] == ["Boss.", "Clerk.", "Clerk.", "Boss."]
    assert points


def test_a_handoff_is_a_call_that_its_user_and_the_next_turn_see() -> None:
    clerk = agents.Agent[Any](name="clerk", instructions="Clerk.", tools=[weather])
    boss = agents.Agent[Any](name="boss", instructions="Boss.", handoffs=[clerk])
    both = asks_many(asks("transfer_to_clerk"), asks("weather", city="Rome"))
    lab = Lab(spec(boss), model=[asks("transfer_to_clerk"), asks("weather", city="Oslo"), says("Rain."), both, "Yes."])
    first = lab.turn("Oslo?")
    lab.turn("really?")
    third = lab.turn("?")

    assert [(use.name, use.result) for use in first.tools] == [
        ("transfer_to_clerk", '{"assistant": "clerk"}'),
        ("weather", "rain in Oslo"),
    ]
    said = [(item.role, item.text, [call.name for call in item.calls]) for item in third.requests[0].messages]
    assert said[:6] == [
        ("user", "Oslo?", []),
        ("assistant", "", ["transfer_to_clerk"]),
        ("tool", '{"assistant": "clerk"}', []),
        ("assistant", "", ["weather"]),
        ("tool", "rain in Oslo", []),
        ("assistant", "Rain.", []),
    ]


def test_instructions_of_a_function_are_a_step() -> None:
    told: list[int] = []

    def instructions(context: Any, agent: Any) -> str:
        told.append(1)
        return f"It is {len(told)} o'clock."

    agent = agents.Agent(name="clock", instructions=instructions, tools=[weather])
    lab = Lab(spec(agent), model=[asks("weather", city="Oslo"), says("Late.")])
    lab.crash_everywhere("?")

    assert lab.last is not None
    assert lab.last.text == "Late."


def test_an_agent_as_a_tool_asks_the_fleets_model_and_its_calls_are_steps() -> None:
    helper = agents.Agent[Any](name="helper", instructions="Helper.", tools=[weather])
    other = agents.Agent[Any](name="other", instructions="Other.", model="small")
    boss = agents.Agent[Any](
        name="boss",
        instructions="Boss.",
        tools=[helper.as_tool("ask_helper", "Asks."), other.as_tool("ask_other", "Asks.")],
    )

    def model(request: ModelRequest) -> Answer | str:
        done = any(item.role == "tool" for item in request.messages)
        if request.system == "Boss.":
            calls = asks_many(asks("ask_helper", input="Oslo"), asks("ask_other", input="Rome"))
            return says("It rains.", usage=(20, 2)) if done else calls
        if request.system == "Helper.":
            return "rain" if done else asks("weather", city="Oslo")
        return "sun"

    reads = {name: ToolPolicy(read_only=True) for name in ("ask_helper", "ask_other")}
    lab = Lab(spec(boss, policies=reads), model=model)
    points = lab.crash_everywhere("?")

    assert lab.last is not None
    assert lab.last.text == lab.last.shown == "It rains."
    assert {use.name: use.result for use in lab.last.tools} == {"ask_helper": "rain", "ask_other": "sun"}
    assert {request.model for request in lab.last.requests} == {None, "small"}
    assert lab.last.steps.count("agent/model") == 3
    shown = [frame for frame in lab.last.frames if frame["type"] == "delta" and frame.get("parent_call")]
    assert {frame["text"] for frame in shown} == {"rain", "sun"}
    for point in points:
        assert point.outcome.usage == lab.last.usage, str(point)


class Trip(BaseModel):
    city: str
    nights: int


def test_structured_output_is_the_answers_data() -> None:
    agent = travel(output_type=Trip)
    lab = Lab(spec(agent), model=['{"city": "Rome", "nights": 2}'])
    seen = lab.turn("?")

    assert seen.data == {"city": "Rome", "nights": 2}
    assert seen.text == seen.shown == '{"city": "Rome", "nights": 2}'
    assert '"nights"' in seen.requests[0].system


def test_structured_output_that_does_not_fit_is_asked_for_once_more() -> None:
    agent = travel(output_type=Trip)
    fits = '```json\n{"city": "Rome", "nights": 2}\n```'
    model: list[Answer | str] = [asks("weather", city="Rome"), "Rome!", fits, "No.", "No."]
    lab = Lab(spec(agent), model=model)
    lab.crash_everywhere("?")
    seen, failed = lab.last, lab.turn("again?")

    assert seen is not None
    assert seen.data == {"city": "Rome", "nights": 2}
    assert seen.text == seen.shown == f"Rome!\n{fits}"
    assert "does not fit" in seen.requests[-1].messages[-1].text
    assert (failed.outcome, failed.code) == ("failed", "model_error")
    assert [(item.role, item.text) for item in failed.requests[0].messages][:4] == [
        ("user", "?"),
        ("assistant", ""),
        ("tool", "rain in Rome"),
        ("assistant", "Rome!"),
    ]


def test_structured_output_need_be_no_object() -> None:
    seen = Lab(spec(travel(output_type=list[int])), model=['{"response": [1, 2]}']).turn("?")

    assert (seen.data, seen.text) == ([1, 2], '{"response": [1, 2]}')


def test_what_a_last_tool_says_is_the_answer() -> None:
    agent = travel(tool_use_behavior="stop_on_first_tool")
    seen = Lab(spec(agent), model=[asks("weather", city="Oslo")]).turn("?")
    assert seen.text == "rain in Oslo"


def test_settings_of_the_agent_reach_the_model() -> None:
    settings = agents.ModelSettings(temperature=0.5, max_tokens=9, tool_choice="none")
    seen = Lab(spec(travel(model="big", model_settings=settings)), model=["Hi."]).turn("?")
    (request,) = seen.requests
    assert (request.model, request.temperature, request.max_tokens, request.tools) == ("big", 0.5, 9, ())


def test_who_may_not_use_a_tool_is_not_told_of_it() -> None:
    only = {"book": ToolPolicy(users=frozenset({"bob"}))}
    seen = Lab(spec(policies=only), model=["Hi."]).turn("?")
    assert {tool.name for tool in seen.requests[0].tools} == {"weather", "fall"}


def test_a_turn_may_bring_the_names_of_the_tools_that_it_wants() -> None:
    seen = Lab(spec(), model=["Hi."]).turn("?", tools=["fall"])
    assert {tool.name for tool in seen.requests[0].tools} == {"fall"}


def test_a_model_that_is_given_up_ends_the_turn_with_its_code() -> None:
    seen = Lab(spec(), model=[fails(400, "no")]).turn("?")
    assert (seen.outcome, seen.code) == ("failed", "model_error")


def test_a_user_who_cancels_during_a_call_ends_the_turn() -> None:
    ended: list[str] = []

    @agents.function_tool
    async def wait() -> str:
        """Waits."""
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("wait")
        return "waited"

    agent = agents.Agent[Any](name="waiter", tools=[wait, weather], instructions="Wait.")
    calls = asks_many(asks("wait"), asks("weather", city="Rome"), text="Wait. ")
    seen = Lab(spec(agent), model=[calls]).turn("?", cancel_after=2)

    assert (seen.outcome, seen.text, ended) == ("cancelled", "Wait. ", ["wait"])


def test_a_run_without_end_ends_the_turn() -> None:
    seen = Lab(spec(max_turns=3), model=lambda _: asks("weather", city="Oslo")).turn("?")
    assert (seen.outcome, seen.code) == ("failed", "agent_error")
    assert "MaxTurnsExceeded" in seen.message


def test_tools_get_what_the_context_function_makes() -> None:
    @agents.function_tool
    def whose(context: agents.RunContextWrapper[str]) -> str:
        """Whose."""
        return context.context

    agent = agents.Agent[Any](name="whose", tools=[whose])
    made = spec(agent, context=lambda ctx: ctx.info.user)
    seen = Lab(made, model=[asks("whose"), says("Yours.")]).turn("?")
    assert seen.tools[0].result == "ada"


def _inner() -> agents.Agent[Any]:
    return agents.Agent(name="inner", tools=[book])


REFUSED: list[tuple[Callable[[], agents.Agent[Any]], str]] = [
    (lambda: travel(handoffs=[agents.handoff(_inner())]), "hides its agent"),
    (lambda: agents.Agent(name="a", tools=[agents.WebSearchTool()]), "WebSearchTool"),
    (lambda: agents.Agent(name="a", tools=[_inner().as_tool(None, None)]), "need approval"),
    (lambda: travel(prompt={"id": "p1"}), "prompt"),
    (lambda: agents.Agent(name="Travel Agent!"), "name 'Travel Agent!'"),
]


@pytest.mark.parametrize(("agent", "sentence"), REFUSED)
def test_what_cannot_be_durable_is_refused(agent: Callable[[], agents.Agent[Any]], sentence: str) -> None:
    with pytest.raises(RegistrationError, match=sentence):
        spec(agent())


def test_policies_must_fit() -> None:
    with pytest.raises(RegistrationError, match="names the tool 'fly'"):
        spec(policies={"fly": ToolPolicy()})
    with pytest.raises(RegistrationError, match="idempotency_key"):
        spec(policies={"book": ToolPolicy(idempotent=True)})


def test_what_is_one_step_only_is_said(caplog: pytest.LogCaptureFixture) -> None:
    helper = agents.Agent[Any](name="helper").as_tool("help_me", "Helps.")
    settings = agents.ModelSettings(top_p=0.5)
    agent = agents.Agent[Any](name="a", tools=[helper], hooks=agents.AgentHooks(), model_settings=settings)
    with caplog.at_level(logging.WARNING, "fleet.worker"):
        spec(agent)

    assert "tool help_me is an agent: all that its tools do is one step" in caplog.text
    assert "hooks are no steps" in caplog.text
    assert "not passed on: top_p" in caplog.text


def test_the_authors_agent_is_left_as_it_was() -> None:
    agent = travel()
    before = (agent.tools, agent.model, weather.on_invoke_tool, book.needs_approval)
    spec(agent)
    assert (agent.tools, agent.model, weather.on_invoke_tool, book.needs_approval) == before


def test_what_the_user_says_meanwhile_is_the_next_run_of_the_same_turn() -> None:
    lab = Lab(spec(), model=[asks("weather", city="Oslo"), says("Rain. "), says("Rain in Rome, too.")])
    seen = lab.turn("Oslo?", steer_after=(1, "and Rome?"))

    assert seen.text == "Rain. Rain in Rome, too."
    assert [item.text for item in seen.requests[-1].messages][-2:] == ["Rain. ", "and Rome?"]


async def test_turns_at_a_time_do_not_meet() -> None:
    made = spec(context=lambda ctx: ctx.message.text)
    agent = await made.build(made, INFO)
    calls = [ToolCall(call=f"c{n}", name="weather", arguments={"city": f"c{n}"}) for n in range(20)]
    told = [Told([ModelDone(calls=(call,))], [f"m{n}"]) for n, call in enumerate(calls)]
    stages = [Stage(agent, model, given=TurnInput(text=f"t{n}")) for n, model in enumerate(told)]
    for stage in stages:
        stage.start()
    while not all(stage.results for stage in stages):
        await asyncio.sleep(0.001)
    assert [stage.results[0].text for stage in stages] == [f"m{n}" for n in range(20)]
    assert [model.requests[1].messages[-1].text for model in told] == [f"rain in c{n}" for n in range(20)]
