"""One decorated function or one class is an agent; what cannot be one is refused in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from fleet.testing import Lab, asks, asks_many, says
from schemas.codes import Code
from workers.agent import AgentSpec, AgentTurn, RegistrationError, Reply, SessionInfo, agent
from workers.context import Context
from workers.tools.calling import call_all
from workers.tools.tool import tool

BOOKED: list[str] = []


@tool(read_only=True)
async def forecast(city: str) -> str:
    """Tells the weather of a city."""
    return f"clear in {city}"


@tool(approval=True)
async def book(city: str) -> str:
    """Books a table."""
    BOOKED.append(city)
    return "booked"


@tool(users=frozenset({"root"}))
async def wipe() -> str:
    """Wipes everything."""
    raise AssertionError


@agent(
    name="guide",
    version="1",
    model="big",
    instructions="You are a guide.",
    tools=[forecast, book, wipe],
    description="Guides",
    options={"mood"},
    max_steps=20,
)
class Guide:
    """Model and tools until the model asks for none."""

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply:
        said = [*ctx.history, ctx.message]
        while True:
            answer = await ctx.model(said, system=ctx.instructions, tools=ctx.tools.specs)
            if not answer.calls:
                return Reply(finish=answer.finish)
            said += [answer.message, *await call_all(ctx, ctx.tools, answer.calls)]


def test_a_class_is_an_agent_with_all_that_its_registration_says() -> None:
    spec: object = Guide  # a type checker takes no notice of what decorates a class
    assert isinstance(spec, AgentSpec)
    assert (spec.model, spec.instructions, spec.max_steps) == ("big", "You are a guide.", 20)
    assert spec.tools == {"forecast", "book", "wipe"}
    assert [one.name for one in spec.own_tools] == ["forecast", "book", "wipe"]
    assert spec.options == {"mood"}


def test_it_finds_its_instructions_and_the_tools_that_its_user_may_use() -> None:
    lab = Lab(Guide, model=[asks("forecast", city="Oslo"), "Sunny"])

    turn = lab.turn("weather?")

    first, second = turn.requests
    assert (first.system, first.model) == ("You are a guide.", "big")
    assert [spec.name for spec in first.tools] == ["forecast", "book"]
    assert [(item.role, item.text) for item in second.messages] == [
        ("user", "weather?"),
        ("assistant", ""),
        ("tool", "clear in Oslo"),
    ]
    assert (turn.text, turn.tools[0].result) == ("Sunny", "clear in Oslo")
    assert [spec.name for spec in Lab(Guide, model=["x"], user="root").turn("").requests[0].tools][-1] == "wipe"


def test_a_turn_may_leave_tools_out() -> None:
    turn = Lab(Guide, model=["ok"]).turn("hi", tools=["forecast"])
    refused = Lab(Guide).turn("hi", tools=["rm"])

    assert [spec.name for spec in turn.requests[0].tools] == ["forecast"]
    assert refused.code is Code.BAD_REQUEST


def test_a_call_that_needs_approval_waits_and_every_crash_ends_the_same() -> None:
    BOOKED.clear()
    lab = Lab(Guide, model=[asks_many(asks("forecast", city="Oslo"), asks("book", city="Oslo")), says("Done")])

    turn = lab.turn("book a table")
    assert turn.asks is not None
    assert (turn.asks.name, turn.asks.arguments) == ("book", {"city": "Oslo"})
    done = lab.decide(arguments={"city": "Rome"})

    assert (done.text, BOOKED) == ("Done", ["Rome"])
    assert [use.name for use in done.tools] == ["forecast", "book"]


@agent(name="mine", version="1")
class Mine:
    def __init__(self, session: SessionInfo) -> None:
        self.session = session
        self.runs = 0

    async def run(self, turn: AgentTurn, ctx: Context) -> str:
        self.runs += 1
        await ctx.step("look", lambda: None)
        return f"{self.session.user} {self.runs}"


def test_a_class_is_made_once_a_session() -> None:
    lab = Lab(Mine, user="bob")

    assert [lab.turn("a").text, lab.turn("b").text] == ["bob 1", "bob 2"]
    assert Lab(Mine).turn("c").text == "ada 1"


def test_what_an_instance_remembers_is_gone_with_its_worker_and_the_kit_shows_it() -> None:
    lab = Lab(Mine)
    lab.turn("first")

    with pytest.raises(AssertionError, match="crash before STEP look: text is 'ada 1', undisturbed it is 'ada 2'"):
        lab.crash_everywhere("second")


def test_a_dataclass_without_required_fields_is_an_agent() -> None:
    @agent(name="short", version="1")
    @dataclass
    class Short:
        words: int = 3

        async def run(self, turn: AgentTurn, ctx: Context) -> str:
            return " ".join(turn.text.split()[: self.words])

    assert Lab(Short).turn("one two three four").text == "one two three"


class NoRun:
    pass


class SyncRun:
    def run(self, turn: AgentTurn, ctx: Context) -> str:
        return ""


class ShortRun:
    async def run(self, turn: AgentTurn) -> str:
        return ""


class Needy:
    def __init__(self, key: str) -> None:
        self.key = key

    async def run(self, turn: AgentTurn, ctx: Context) -> str:
        return self.key


class NeedyOfMore:
    def __init__(self, session: SessionInfo, key: str) -> None:
        self.key = key

    async def run(self, turn: AgentTurn, ctx: Context) -> str:
        return self.key


async def short(turn: AgentTurn) -> str:
    return ""


def sync(turn: AgentTurn, ctx: Context) -> str:
    return ""


@pytest.mark.parametrize(
    ("authored", "sentence"),
    [
        (NoRun, r"agent bad: NoRun is a class without `run`, want `async def run\(turn, ctx\)`, or a class with"),
        (SyncRun, r"agent bad: SyncRun.run is not asynchronous, want `async def …\(self, turn, ctx\)`"),
        (ShortRun, r"agent bad: ShortRun.run cannot be called with \(self, turn, ctx\): too many"),
        (Needy, r"agent bad: Needy\(…\) is made for each session with no argument, or with `session` alone: missing"),
        (NeedyOfMore, r"agent bad: NeedyOfMore\(…\) is made for each session .* missing a required argument: 'key'"),
        (short, r"agent bad: short cannot be called with \(turn, ctx\): too many"),
        (sync, r"agent bad: sync is not asynchronous, want `async def …\(turn, ctx\)`"),
        (42, r"agent bad is int, want `async def run\(turn, ctx\)`, or a class"),
    ],
)
def test_what_is_no_agent_is_refused(authored: Any, sentence: str) -> None:
    with pytest.raises(RegistrationError, match=sentence):
        agent(name="bad", version="1")(authored)


def test_a_class_cannot_run_in_a_process_of_its_own() -> None:
    with pytest.raises(RegistrationError, match="process=True wants a plain `def"):
        agent(name="bad", version="1", process=True)(Mine)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"tools": [short]}, "agent bad: short is no tool; put `@tool` before the function"),
        ({"tools": [42]}, "agent bad: 42 is no tool"),
        ({"tools": [""]}, "agent bad: '' is no tool"),
        ({"tools": "forecast"}, "agent bad: tools is 'forecast', want a list of tools"),
        ({"tools": 5}, "agent bad: tools is 5, want a list of tools"),
        ({"tools": [forecast, forecast]}, "agent bad: two tools are called 'forecast'; rename one"),
        ({"max_steps": 0}, "agent bad: max_steps is 0, give 1 or more"),
        ({"max_steps": "many"}, "agent bad: max_steps is 'many', give 1 or more"),
        ({"max_steps": True}, "agent bad: max_steps is True, give 1 or more"),
        ({"max_reply_bytes": "big"}, "agent bad: max_reply_bytes must be 1 to"),
        ({"session_idle_s": 1.5}, "agent bad: session_idle_s is 1.5, give 1 or more"),
        ({"on_expired": "never"}, "agent bad: on_expired is 'never', want one of fresh, fail"),
        ({"on_poison": "panic"}, "agent bad: on_poison is 'panic', want one of skip, wait"),
        ({"on_suspended": "last"}, "agent bad: on_suspended is 'last', want one of wait, first"),
        ({"options": "mood"}, "agent bad: options is 'mood', want names"),
        ({"options": [1]}, r"agent bad: options is \[1\], want names"),
        ({"fallbacks": ["m"]}, r"agent bad: fallbacks is \['m'\], want a tuple of models' names"),
        ({"model": ""}, "agent bad: model is '', want a model's name"),
        ({"model": 5}, "agent bad: model is 5, want a model's name"),
        ({"instructions": None}, "agent bad: instructions is NoneType, want a text"),
        ({"description": 5}, "agent bad: description is int, want a text"),
        ({"speed": 5}, "agent bad has no limit 'speed'; there are: description, session_idle_s"),
    ],
)
def test_wrong_tools_and_limits_are_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RegistrationError, match=sentence):

        @agent(**{"name": "bad", "version": "1", **given})
        async def run(turn: AgentTurn, ctx: Context) -> str:
            return ""


def test_a_spec_that_is_made_by_hand_lets_a_turn_bring_its_own_tools() -> None:
    made: Any = Guide
    spec = AgentSpec("hand", "1", made.build, own_tools=(forecast,))

    assert [one.name for one in Lab(spec, model=["ok"]).turn("hi", tools=["forecast"]).requests[0].tools] == [
        "forecast"
    ]


def test_names_of_tools_that_are_not_its_own_may_be_brought_as_well() -> None:
    @agent(name="mixed", version="1", tools=[forecast, "web"])
    async def mixed(turn: AgentTurn, ctx: Context) -> str:
        return ", ".join(one.name for one in ctx.tools)

    assert mixed.tools == {"forecast", "web"}
    assert [one.name for one in mixed.own_tools] == ["forecast"]
    assert Lab(mixed).turn("hi").text == "forecast"
    assert Lab(mixed).turn("hi", tools=["web"]).outcome == "failed"  # it answers with nothing then
