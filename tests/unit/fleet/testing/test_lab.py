"""The kit runs an agent as a worker does, and a test sees all of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time

import pytest

from fleet.testing import Lab, asks, asks_badly, asks_many, fails, says
from schemas.codes import Code
from schemas.errors import TerminalError
from schemas.history import ToolCall
from schemas.profile import Profile
from workers.agent import AgentSpec, AgentTurn, RegistrationError, Reply, agent
from workers.context import Context
from workers.models.port import ModelRequest
from workers.registry import Registry
from workers.tools.calling import call_tool
from workers.tools.tool import tool


@agent(name="plain", version="1", options=frozenset({"mood"}), tools=frozenset({"web"}))
async def plain(turn: AgentTurn, ctx: Context) -> Reply:
    answer = await ctx.model()
    return Reply(finish=answer.finish)


@agent(name="looper", version="1")
async def looper(turn: AgentTurn, ctx: Context) -> Reply:
    """Model and tools until it asks for none."""
    messages = [*ctx.history, ctx.message]
    while True:
        answer = await ctx.model(messages)
        if not answer.calls:
            return Reply()
        for call in answer.calls:
            await ctx.tool(call.name, forecast, call.arguments, call=call.call, side_effects=False)
        messages = [*ctx.history, ctx.message]


async def forecast(city: str) -> dict[str, str]:
    return {"city": city, "sky": "clear"}


def test_the_model_says_what_it_is_told_and_the_history_goes_on() -> None:
    lab = Lab(plain, model=[says("Hello"), says("Again")])

    first = lab.turn("hi")
    second = lab.turn("and?")

    assert (first.outcome, first.text, first.shown, first.steps) == ("completed", "Hello", "Hello", ("model",))
    assert second.text == "Again"
    assert [item.text for item in second.requests[0].messages] == ["hi", "Hello", "and?"]
    assert [item.text for item in lab.history] == ["hi", "Hello", "and?", "Again"]
    assert [item.role for item in second.messages] == ["user", "assistant"]
    assert (len(lab.requests), lab.left, lab.state.turns) == (2, 0, 2)


def test_a_tool_call_is_seen_with_arguments_and_result() -> None:
    lab = Lab(looper, model=[asks("forecast", city="Oslo"), says("Sunny")])

    turn = lab.turn("weather?")

    assert turn.steps == ("model", "forecast", "model")
    (use,) = turn.tools
    assert (use.name, use.arguments, use.result) == ("forecast", {"city": "Oslo"}, {"city": "Oslo", "sky": "clear"})
    assert turn.text == "Sunny"
    assert [frame["type"] for frame in turn.frames if "tool" in frame["type"]] == ["tool_call", "tool_result"]


def test_several_calls_at_once_have_ids_of_their_own() -> None:
    both = asks_many(asks("forecast", city="Oslo"), asks("forecast", city="Rome"), text="Let me see")
    turn = Lab(looper, model=[both, says("Sunny")]).turn("weather?")

    assert [use.arguments["city"] for use in turn.tools] == ["Oslo", "Rome"]
    assert len({use.call for use in turn.tools}) == 2


def test_arguments_that_are_no_object_reach_the_agent_as_none() -> None:
    turn = Lab(looper, model=[asks_badly("forecast", "Oslo, please")]).turn("weather?")

    assert (turn.outcome, turn.code) == ("failed", Code.TOOL_ERROR)


def test_plain_texts_are_answers_and_a_function_of_the_request_is_a_model() -> None:
    def echo(request: ModelRequest) -> str:
        return request.messages[-1].text.upper()

    assert Lab(plain, model=["Hello"]).turn("hi").text == "Hello"
    assert Lab(plain, model=echo).turn("loud").text == "LOUD"


def test_a_call_that_fails_is_tried_again_in_virtual_time() -> None:
    began_s = time.monotonic()
    lab = Lab(plain, model=[fails(429, after_s=100), fails(500), fails("cut", "Hel"), says("Hello")])

    turn = lab.turn("hi")

    assert (turn.text, len(turn.requests)) == ("Hello", 4)
    assert 100 < turn.waited_s < 200
    assert "reset" in [frame["type"] for frame in turn.frames]
    assert time.monotonic() - began_s < 2


@pytest.mark.parametrize(
    ("answers", "code"),
    [([fails(400)], Code.MODEL_ERROR), ([fails(429)] * 4, Code.MODEL_RATE_LIMITED), ([fails("timeout")] * 4, None)],
)
def test_a_model_that_is_given_up_ends_the_turn_typed(answers: list[object], code: Code | None) -> None:
    turn = Lab(plain, model=answers).turn("hi")  # type: ignore[arg-type]

    assert (turn.outcome, turn.code) == ("failed", code or Code.MODEL_ERROR)


def test_the_script_says_what_a_call_costs() -> None:
    turn = Lab(plain, model=[says("Hello", usage=(100, 7))]).turn("hi")

    assert [(usage.input_tokens, usage.output_tokens) for usage in turn.usage] == [(100, 7)]
    assert turn.tokens == 107


def test_a_turn_has_a_receipt_and_costs_what_the_prices_say() -> None:
    answers = [says("Hello", usage=(1_000_000, 100_000))]
    turn = Lab(plain, model=answers, prices={"scripted": (2.5, 10.0)}).turn("hi")

    assert turn.receipt is not None
    assert (turn.money, turn.receipt.currency, turn.receipt.model_calls) == (3.5, "USD", 1)
    assert Lab(plain, model=answers).turn("hi").money is None
    assert Lab(plain, model=answers, prices={"other": (1, 1)}).turn("hi").receipt.unpriced == ("scripted",)  # type: ignore[union-attr]


def test_a_receipt_s_hops_are_virtual_as_well() -> None:
    turn = Lab(plain, model=[fails(429, after_s=60), says("Hello")]).turn("hi")

    assert turn.receipt is not None
    assert 60_000_000 <= turn.receipt.hops.model_us <= turn.receipt.whole_us < 70_000_000
    assert turn.receipt.retries == 1


def test_a_tool_may_stand_for_one_of_the_agents_own() -> None:
    @tool
    async def send(to: str) -> str:
        """Sends."""
        raise AssertionError("the real one")

    @agent(name="sender", version="1", tools=[send])
    async def sender(turn: AgentTurn, ctx: Context) -> str:
        call = ToolCall(call="c1", name="send", arguments={"to": "bob"})
        return (await call_tool(ctx, ctx.tools, call)).parts[0].text  # type: ignore[union-attr]

    @tool(name="send")
    async def fake(to: str) -> str:
        """Sends nothing."""
        return f"sent to {to}"

    assert Lab(sender, tools=[fake]).turn("hi").text == "sent to bob"
    assert "the real one" in Lab(sender).turn("hi").text
    with pytest.raises(RegistrationError, match="agent plain has no tool 'send' that this one could stand for"):
        Lab(plain, tools=[fake])


def test_asking_more_often_than_told_is_a_sentence() -> None:
    lab = Lab(looper, model=[asks("forecast", city="Oslo")])

    with pytest.raises(AssertionError, match="asked 2 times, and the script has 1 answers; this request ends with"):
        lab.turn("weather?")
    assert lab.state.open is None


def test_what_a_turn_may_not_bring_fails_it_before_it_runs() -> None:
    lab = Lab(plain, model=["Hello"])

    refused = lab.turn("hi", options={"speed": 1})

    assert (refused.outcome, refused.code, refused.steps) == ("failed", Code.BAD_REQUEST, ())
    assert "it allows: mood" in refused.message
    assert lab.turn("hi", options={"mood": "good"}, tools=["web"]).text == "Hello"


def test_a_deadline_passes_in_virtual_time() -> None:
    @agent(name="slow", version="1")
    async def slow(turn: AgentTurn, ctx: Context) -> str:
        await asyncio.sleep(3600)
        return "never"

    turn = Lab(slow, deadline_s=60).turn("hi")

    assert (turn.outcome, turn.code) == ("failed", Code.DEADLINE_EXCEEDED)
    assert 60 <= turn.waited_s < 62


def test_a_thread_that_works_does_not_let_the_deadline_pass() -> None:
    @agent(name="threaded", version="1")
    async def threaded(turn: AgentTurn, ctx: Context) -> str:
        await asyncio.to_thread(time.sleep, 0.02)
        return "done"

    assert Lab(threaded, deadline_s=60).turn("hi").text == "done"


def test_a_cancelled_turn_keeps_what_was_shown() -> None:
    @agent(name="steps", version="1")
    async def steps(turn: AgentTurn, ctx: Context) -> str:
        for number in range(5):
            ctx.emit(f"{number} ")
            await ctx.step(f"s{number}", lambda: None)
        return "all"

    turn = Lab(steps).turn("go", cancel_after=2)

    assert (turn.outcome, turn.steps, turn.text) == ("cancelled", ("s0", "s1"), "0 1 ")
    assert Lab(steps).turn("go", cancel_after=0).steps == ()


def test_what_the_user_says_meanwhile_reaches_the_agent() -> None:
    @agent(name="listener", version="1")
    async def listener(turn: AgentTurn, ctx: Context) -> str:
        heard = []
        for number in range(3):
            await ctx.step(f"s{number}", lambda: None)
            heard += [note.text for note in ctx.steers()]
        return f"heard {heard}"

    lab = Lab(listener)
    turn = lab.turn("go", steer_after=[(1, "left"), (2, "right")])

    assert turn.text == "heard ['left', 'right']"
    assert [item.text for item in lab.history if item.role == "user"] == ["go", "left", "right"]
    assert lab.turn("go", steer_after=(1, "up")).text == "heard ['up']"


def test_a_session_may_have_a_past_a_profile_and_kept_values() -> None:
    @agent(name="counter", version="1", profile=True)
    async def counter(turn: AgentTurn, ctx: Context) -> Reply:
        count = int(str(ctx.kept.get("count", 0))) + 1
        ctx.keep("count", count)
        ctx.state("count", count)
        return Reply(f"{ctx.profile.summary if ctx.profile else ''} {count}", data={"user": ctx.info.user})

    lab = Lab(counter, kept={"count": 7}, history=["old", "answer"], profile="likes tea", user="bob", tenant="acme")
    turn = lab.turn("hi")

    assert (turn.text, turn.data, turn.kept) == ("likes tea 8", {"user": "bob"}, {"count": 8})
    assert turn.states("count") == [8]
    assert [item.text for item in lab.history] == ["old", "answer", "hi", "likes tea 8"]
    assert (lab.kept, lab.state.opened and lab.state.opened.user) == ({"count": 8}, "bob")
    assert Lab(counter, profile=Profile(tenant="t", user="u", version=3, summary="x")).turn("hi").text == "x 1"


def test_steps_of_branches_are_seen_with_their_branch() -> None:
    @agent(name="twins", version="1")
    async def twins(turn: AgentTurn, ctx: Context) -> str:
        async def one(name: str) -> str:
            answer = await ctx.branch(name).model(f"about {name}")
            return answer.text

        return " and ".join(await asyncio.gather(one("a"), one("b")))

    turn = Lab(twins, model=lambda request: request.messages[-1].text).turn("go")

    assert (turn.text, sorted(turn.steps)) == ("about a and about b", ["a/model", "b/model"])
    assert turn.shown == "about a and about b"


def test_it_takes_what_fleet_up_takes() -> None:
    several = Registry([plain, looper])

    assert Lab(several, agent="plain", model=["Hello"]).turn("hi").text == "Hello"
    assert Lab("workers.agents.echo:spec", agent="echo").turn("hi").text == "hi"
    with pytest.raises(RegistrationError, match=r"these are 2 \(plain, looper\): name it with agent="):
        Lab(several)
    with pytest.raises(RegistrationError, match="want AgentSpec"):
        Lab([object()])
    with pytest.raises(RegistrationError, match="cannot be imported"):
        Lab("no.such.module:registry")


def test_an_agent_that_cannot_be_built_fails_its_turn() -> None:
    async def build(spec: object, session: object) -> object:
        raise TerminalError(Code.AGENT_ERROR, "no key")

    turn = Lab(AgentSpec(name="broken", version="1", build=build)).turn("hi")  # type: ignore[arg-type]

    assert (turn.outcome, turn.code, turn.message) == ("failed", Code.AGENT_ERROR, "no key")


def test_the_clock_goes_on_between_turns() -> None:
    lab = Lab(plain, model=["a", "b"])
    lab.turn("one")
    lab.advance(3600)
    lab.turn("two")

    assert lab.history[2].at_ms - lab.history[1].at_ms >= 3_600_000


async def test_a_lab_in_a_running_loop_is_a_sentence() -> None:
    with pytest.raises(AssertionError, match="use it in `def test_"):
        Lab(plain)


def test_what_the_agent_left_running_ends_with_the_lab() -> None:
    tasks: list[asyncio.Task[None]] = []

    @agent(name="leaky", version="1")
    async def leaky(turn: AgentTurn, ctx: Context) -> str:
        tasks.append(asyncio.create_task(asyncio.sleep(1e9)))
        return "left one"

    with Lab(leaky) as lab:
        lab.turn("hi")

    assert tasks[0].cancelled()


def test_a_task_that_will_not_end_keeps_no_lab_from_its_end() -> None:
    @agent(name="stubborn", version="1")
    async def stubborn(turn: AgentTurn, ctx: Context) -> str:
        async def stay() -> None:
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()

        tasks.append(asyncio.create_task(stay()))
        await asyncio.sleep(0)
        return "left one"

    tasks: list[asyncio.Task[None]] = []
    with Lab(stubborn) as lab:
        assert lab.turn("hi").text == "left one"
    assert not tasks[0].done()


def test_a_lab_that_was_dropped_is_ended_by_the_next_one_and_never_by_the_garbage_collector() -> None:
    ended: list[bool] = []

    @agent(name="leaky", version="1")
    async def leaky(turn: AgentTurn, ctx: Context) -> str:
        async def last_words() -> None:
            try:
                await asyncio.sleep(1e9)
            finally:
                ended.append(True)

        left.append(asyncio.create_task(last_words()))
        await asyncio.sleep(0)
        return "left one"

    left: list[asyncio.Task[None]] = []
    lab: Lab | None = Lab(leaky)
    assert lab is not None
    lab.turn("hi")
    circle: list[object] = [lab]
    circle.append(circle)
    lab = None
    del circle
    gc.collect()
    assert ended == []
    Lab(plain)
    assert ended == [True]
