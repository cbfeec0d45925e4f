"""The kit kills a turn everywhere, and finds what does not survive it."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from fleet.testing import Lab, allows, asks, fails, says
from schemas.codes import Code
from schemas.errors import OutcomeUnknown
from workers.agent import AgentTurn, Reply, agent
from workers.context import Context

calls: list[str] = []


async def note(text: str) -> str:
    calls.append(text)
    return f"noted {text}"


async def pay(cents: int, idempotency_key: str) -> str:
    calls.append(idempotency_key)
    return "paid"


@agent(name="reader", version="1")
async def reader(turn: AgentTurn, ctx: Context) -> Reply:
    """A model that asks for one tool that only reads."""
    answer = await ctx.model()
    for call in answer.calls:
        found = await ctx.tool(call.name, note, call.arguments, call=call.call, side_effects=False)
        ctx.keep("found", found)
        await ctx.model("and?")
    return Reply()


def test_a_turn_ends_the_same_wherever_its_worker_dies() -> None:
    lab = Lab(reader, model=[asks("note", text="a"), says("Sunny today"), says("next")])

    points = lab.crash_everywhere("hi")

    assert [str(point) for point in points] == [
        "before STEP model",
        "after STEP model",
        "before STEP note",
        "after STEP note",
        "before STEP model",
        "after STEP model",
        "before FINISH",
    ]
    assert {point.outcome.text for point in points} == {"Sunny today"}
    assert {point.outcome.attempts for point in points} == {2}
    assert lab.last is not None
    assert (lab.last.attempts, lab.last.text, lab.kept) == (1, "Sunny today", {"found": "noted a"})
    assert lab.turn("more").text == "next"


def test_a_tool_that_may_not_be_called_again_is_unknown_where_it_was_in_the_middle() -> None:
    @agent(name="writer", version="1")
    async def writer(turn: AgentTurn, ctx: Context) -> str:
        try:
            return str(await ctx.tool("note", note, {"text": "a"}))
        except OutcomeUnknown:
            return "who knows"

    calls.clear()
    points = Lab(writer).crash_everywhere("hi")

    assert [(str(p), p.unknown, p.outcome.text) for p in points] == [
        ("before INTENT note", (), "noted a"),
        ("after INTENT note", ("note",), "who knows"),
        ("before STEP note", ("note",), "who knows"),
        ("after STEP note", (), "noted a"),
        ("before FINISH", (), "noted a"),
    ]
    assert len(calls) == 1 + 1 + 0 + 1 + 1 + 1


def test_a_tool_with_a_key_is_called_again_under_the_same_key() -> None:
    @agent(name="payer", version="1")
    async def payer(turn: AgentTurn, ctx: Context) -> str:
        return str(await ctx.tool("pay", pay, {"cents": 5}))

    calls.clear()
    points = Lab(payer).crash_everywhere("hi")

    assert not any(point.unknown for point in points)
    assert {point.outcome.text for point in points} == {"paid"}
    assert [use.error for point in points for use in point.outcome.tools] == [None] * 5


def test_a_turn_that_waits_is_killed_around_its_suspension_as_well() -> None:
    @agent(name="asker", version="1")
    async def asker(turn: AgentTurn, ctx: Context) -> str:
        await ctx.step("look", lambda: 1)
        decision = await ctx.approval("Pay?", name="pay", arguments={})
        return f"{decision.allowed} {decision.note}"

    lab = Lab(asker)
    points = lab.crash_everywhere("hi", decisions=[allows(note="ok")])

    assert {"before SUSPEND pay", "after SUSPEND pay"} <= {str(point) for point in points}
    assert {point.outcome.text for point in points} == {"True ok"}
    with pytest.raises(AssertionError, match="awaits decision 1, on 'pay'"):
        Lab(asker).crash_everywhere("hi")


def test_what_the_user_says_meanwhile_is_heard_at_the_same_place_in_every_attempt() -> None:
    @agent(name="listener", version="1")
    async def listener(turn: AgentTurn, ctx: Context) -> str:
        heard: list[str] = []
        for number in range(3):
            await ctx.step(f"s{number}", lambda *_: None, *heard)
            heard += [f"{number}: {note.text}" for note in ctx.steers()]
        return ", ".join(heard)

    lab = Lab(listener)
    points = lab.crash_everywhere("go", steer_after=[(1, "left"), (2, "right")])

    assert lab.last is not None
    assert lab.last.text == "0: left, 1: right"
    assert {point.outcome.text for point in points} == {"0: left, 1: right"}


def test_branches_side_by_side_end_the_same() -> None:
    @agent(name="twins", version="1")
    async def twins(turn: AgentTurn, ctx: Context) -> str:
        async def one(name: str) -> str:
            line = ctx.branch(name)
            answer = await line.model(f"about {name}")
            return str(await line.tool("note", note, {"text": answer.text}, side_effects=False))

        return ", ".join(await asyncio.gather(*(one(name) for name in "abc")))

    points = Lab(twins, model=["first", "second", "third"]).crash_everywhere("go")

    assert len(points) == 2 * 6 + 1
    assert {point.outcome.text for point in points} == {"noted first, noted second, noted third"}


def test_a_model_call_that_failed_at_first_is_told_the_same_again() -> None:
    lab = Lab(reader, model=[fails(500), says("Fine"), says("next")])

    assert len(lab.crash_everywhere("hi")) == 3
    assert lab.turn("more").text == "next"


def test_an_agent_that_goes_by_chance_is_found() -> None:
    numbers = itertools.count()

    @agent(name="dice", version="1")
    async def dice(turn: AgentTurn, ctx: Context) -> str:
        number = next(numbers)
        await ctx.step("look", lambda x: x, number)
        return "ok"

    with pytest.raises(AssertionError, match=r"crash after STEP look: the agent did something else .* put all else"):
        Lab(dice).crash_everywhere("hi")


def test_an_answer_that_comes_from_memory_alone_is_found() -> None:
    numbers = itertools.count()

    @agent(name="forgetful", version="1")
    async def forgetful(turn: AgentTurn, ctx: Context) -> str:
        number = next(numbers)
        await ctx.step("look", lambda: 1)
        return f"run {number}"

    with pytest.raises(AssertionError, match="crash before STEP look: text is 'run 2', undisturbed it is 'run 0'"):
        Lab(forgetful).crash_everywhere("hi")


def test_a_kept_value_that_differs_is_found() -> None:
    numbers = itertools.count()

    @agent(name="keeper", version="1")
    async def keeper(turn: AgentTurn, ctx: Context) -> str:
        ctx.keep("run", next(numbers))
        await ctx.step("look", lambda: 1)
        return "ok"

    with pytest.raises(AssertionError, match="kept is"):
        Lab(keeper).crash_everywhere("hi")


def test_each_point_begins_from_the_same_session_with_an_agent_built_anew() -> None:
    lab = Lab(reader, model=[says("one"), says("two")], history=["old", "answer"])
    lab.turn("first")

    points = lab.crash_everywhere("second")

    assert len(points) == 3
    for point in points:
        assert [item.text for item in point.outcome.requests[0].messages] == ["old", "answer", "first", "one", "second"]
    assert [item.text for item in lab.history][-2:] == ["second", "two"]


def test_a_turn_that_fails_fails_the_same() -> None:
    points = Lab(reader, model=[fails(400), fails(400)]).crash_everywhere("hi")

    assert [str(point) for point in points] == ["before STEP model", "after STEP model", "before FINISH"]
    assert {point.outcome.code for point in points} == {Code.MODEL_ERROR}
