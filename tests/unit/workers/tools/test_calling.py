"""One call that a model asked for: refused, allowed, cut, timed out, repeated or not, and always answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fleet.testing import Lab, allows
from schemas.codes import Code
from schemas.entries import ControlNote, Intent, Step, Suspend
from schemas.errors import RetryableError, TerminalError
from schemas.history import ToolCall
from schemas.parts import DataPart, TextPart
from tests.support.stage import INFO, NOON_MS, Stage
from workers.agent import AgentTurn, SessionInfo, agent
from workers.context import Context
from workers.tools.calling import call_tool
from workers.tools.exchange import EXCHANGE, InputNeeded, Question
from workers.tools.tool import Tool, ToolOutput, ToolPolicy, tool
from workers.tools.toolbox import Toolbox

CALLS: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_was_called() -> None:
    CALLS.clear()


@tool(read_only=True)
def look(what: str) -> str:
    """Looks."""
    CALLS.append(what)
    return f"saw {what}"


@tool
def send(to: str) -> str:
    CALLS.append(to)
    return f"sent to {to}"


@tool(approval=True)
def wipe(path: str) -> dict[str, str]:
    CALLS.append(path)
    return {"wiped": path}


@tool
def pay(cents: int, *, idempotency_key: str) -> str:
    CALLS.append((cents, idempotency_key))
    return "paid"


def agent_of(*tools: Tool, call: ToolCall, only: list[str] | None = None) -> Any:
    async def agent(turn: AgentTurn, ctx: Context) -> str:
        output = await call_tool(ctx, Toolbox(tools, ctx.info, only=only), call)
        said = "".join(getattr(part, "text", "[data]") for part in output.parts)
        return f"{'error' if output.is_error else 'ok'}: {said}"

    return agent


def asked(name: str, text: str | None = None, **arguments: Any) -> ToolCall:
    return ToolCall(call="c1", name=name, arguments=None if text is not None else arguments, arguments_text=text)


async def answer(*tools: Tool, call: ToolCall, only: list[str] | None = None) -> str:
    stage = Stage(agent_of(*tools, call=call, only=only))
    stage.start()
    for _ in range(100):
        await asyncio.sleep(0)
    (result,) = stage.results
    assert result.outcome == "completed", result.message
    assert [frame["type"] for frame in stage.frames if frame["type"].startswith("tool")] == ["tool_call", "tool_result"]
    return result.text


async def test_a_call_is_made_once_and_answered() -> None:
    assert await answer(look, send, call=asked("look", what="sky")) == "ok: saw sky"
    assert CALLS == ["sky"]


@pytest.mark.parametrize("only", [None, ["send"]])
async def test_a_tool_that_is_not_there_or_not_allowed_answers_alike(only: list[str] | None) -> None:
    tools = (send,) if only is None else (look, send)

    text = await answer(*tools, call=asked("look", what="sky"), only=only)

    assert text == "error: there is no tool 'look'; there are: send"
    assert CALLS == []


async def test_a_tool_of_other_users_is_as_if_it_were_not_there() -> None:
    theirs = tool(name="look", users=frozenset({"bob"}))(lambda: "x")

    assert list(Toolbox([theirs, send], INFO)) == [send]
    assert list(Toolbox([theirs], SessionInfo("default", "s", "bob", "one", "1"))) == [theirs]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (asked("look", text="{what: sky"), "error: the arguments of look are no JSON object: give one"),
        (asked("look", where="sky"), "error: look does not take these arguments: what: Field required"),
        (asked("pay", cents=1, idempotency_key="mine"), "error: idempotency_key is not yours to give: leave it out"),
    ],
)
async def test_arguments_that_do_not_fit_are_told_to_the_model(call: ToolCall, says: str) -> None:
    assert await answer(look, pay, call=call) == says
    assert CALLS == []


async def test_a_text_that_is_too_long_is_cut_and_anything_else_too_large_refused() -> None:
    long = tool(name="long", max_result_bytes=100)(lambda: "x" * 500)
    large = tool(name="large", max_result_bytes=100)(lambda: {"x": "x" * 500})

    assert (await answer(long, call=asked("long"))).endswith("\n[cut: the first 100 of 527 bytes]")
    assert "at most 100 are taken" in await answer(large, call=asked("large"))


async def test_what_a_tool_raises_is_told_and_only_what_may_be_is_tried_again() -> None:
    def raising(error: Exception) -> Tool:
        async def fails(given: Any, *, idempotency_key: str | None = None) -> ToolOutput:
            CALLS.append(given)
            raise error

        return Tool("f", "", {}, fails)

    assert await answer(raising(ValueError("odd")), call=asked("f")) == "error: f failed: ValueError: odd"
    assert await answer(raising(TerminalError(Code.TOOL_ERROR, "no")), call=asked("f")) == "error: f failed: no"
    assert await answer(raising(RetryableError("away")), call=asked("f")) == "error: f failed: away"
    assert len(CALLS) == 3


async def test_a_tool_that_hangs_is_ended_and_its_effect_unknown() -> None:
    ended: list[str] = []

    async def hangs(given: Any, *, idempotency_key: str | None = None) -> ToolOutput:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("hangs")
        raise AssertionError

    slow = Tool("slow", "", {}, hangs, ToolPolicy(timeout_s=0.01))
    stage = Stage(agent_of(slow, call=asked("slow")))
    stage.start()
    while not stage.results:
        await asyncio.sleep(0.005)
    assert stage.results[0].text == (
        "error: slow did not answer within 0.01 s; whether it took effect is unknown, do not just call it again"
    )
    assert ended == ["hangs"]


async def test_a_decision_that_turns_a_number_into_a_truth_is_taken() -> None:
    @tool(approval=True)
    def switch(on: Any) -> str:
        CALLS.append(repr(on))
        return "done"

    agent = agent_of(switch, call=asked("switch", on=1))
    first = Stage(agent)
    first.start()
    await asyncio.sleep(0.01)
    (entry,) = first.link.entries
    assert isinstance(entry, Suspend)
    again = Stage(agent, attempt=2)
    note = ControlNote(
        at_ms=NOON_MS,
        op="o",
        kind="approve",
        turn="t1",
        tenant="default",
        user="ann",
        call="c1",
        value={"arguments": {"on": True}},
    )
    again.job.turn = again.job.turn._replace(asked=(entry,), decisions=(note,))
    assert (await again.play()).text == 'ok: (called with {"on":true} by decision of ann)\ndone'
    assert CALLS == ["True"]


async def test_a_call_with_approval_waits_for_it_and_takes_its_arguments() -> None:
    agent = agent_of(wipe, call=asked("wipe", path="/a"))
    first = Stage(agent)
    first.start()
    await asyncio.sleep(0.01)
    (entry,) = first.link.entries
    assert isinstance(entry, Suspend)
    assert (entry.run, entry.call, CALLS) == ("c1", "c1", [])

    def decided(kind: Any, **value: Any) -> Stage:
        again = Stage(agent, attempt=2)
        note = ControlNote(
            at_ms=NOON_MS, op="o", kind=kind, turn="t1", tenant="default", user="ann", call="c1", value=value or None
        )
        again.job.turn = again.job.turn._replace(asked=(entry,), decisions=(note,))
        return again

    assert (await decided("approve").play()).text == "ok: [data]"
    assert (await decided("approve", arguments={"path": "/b"}).play()).text == (
        'ok: (called with {"path":"/b"} by decision of ann)\n[data]'
    )
    assert CALLS == ["/a", "/b"]
    refused = await decided("deny", note="not mine").play()
    assert refused.text == (
        "error: wipe was not called: ann denied it (not mine); do not ask for it again unless the user says so"
    )
    assert CALLS == ["/a", "/b"]


@pytest.mark.parametrize(("what", "answered"), [(send, "unknown"), (pay, "ok: paid"), (look, "ok: saw 1")])
async def test_a_call_that_a_crash_interrupted_is_not_repeated_silently(what: Tool, answered: str) -> None:
    all_given: dict[str, dict[str, Any]] = {"send": {"to": "x"}, "pay": {"cents": 1}, "look": {"what": "1"}}
    given = all_given[what.name]
    agent = agent_of(what, call=asked(what.name, **given))
    first = Stage(agent)
    await first.play()
    intents = [entry for entry in first.link.entries if isinstance(entry, Intent)]
    before = list(CALLS)

    result = await Stage(agent, attempt=2, intents=intents).play()

    assert answered in result.text
    if what is pay:
        assert CALLS[0] == CALLS[1]  # the same key
    else:
        assert (before if what is send else before * 2) == CALLS


async def test_a_durable_call_is_answered_from_the_journal() -> None:
    agent = agent_of(send, call=asked("send", to="x"))
    first = Stage(agent)
    await first.play()
    (step,) = [entry for entry in first.link.entries if isinstance(entry, Step)]
    assert (step.run, step.content, step.result) == ("c1", (TextPart(text="sent to x"),), "sent to x")

    assert (await Stage(agent, attempt=2, steps=[step]).play()).text == "ok: sent to x"
    assert CALLS == ["x"]


async def test_a_value_comes_as_data() -> None:
    output = await wipe.call({"path": "/a"})
    assert output == ToolOutput((DataPart(data={"wiped": "/a"}),), data={"wiped": "/a"})


class Booking:
    """A tool that asks its user before it goes on, and forgets what it asked when it was restarted."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    async def call(self, given: Any, *, idempotency_key: str | None = None) -> ToolOutput:
        exchange = EXCHANGE.get()
        if exchange.progress is not None:
            exchange.progress(1.0, 2.0, "half way")
        self.told.append(exchange.resumed)
        if exchange.resumed is None:
            raise InputNeeded(Question("Which seat?", {"type": "object"}), {"held": 7})
        return ToolOutput.said(f"seat {exchange.resumed.answer.content} of {exchange.resumed.state}")


@agent(name="books", version="1")
async def books(turn: AgentTurn, ctx: Context) -> str:
    output = await call_tool(ctx, Toolbox([Tool("book", "", {}, BOOKING[-1].call)], ctx.info), asked("book", to="Oslo"))
    return "".join(getattr(part, "text", "") for part in output.parts)


BOOKING: list[Booking] = []


def test_what_a_tool_asks_is_put_before_its_user_and_kept_until_the_answer() -> None:
    BOOKING.append(Booking())
    with Lab(books) as lab:
        turn = lab.turn("go")
        assert turn.asks is not None
        assert (turn.asks.message, turn.asks.name, turn.text) == ("Which seat?", None, "")
        assert turn.states("progress:c1") == [{"tool": "book", "done": 1.0, "total": 2.0, "message": "half way"}]
        turn = lab.decide(answer={"seat": "4A"})

    assert turn.text == "seat {'seat': '4A'} of {'held': 7}"
    assert [one.answer.content if one else None for one in BOOKING[-1].told] == [None, {"seat": "4A"}]


def test_a_tool_that_asks_ends_the_same_wherever_its_worker_dies() -> None:
    BOOKING.append(Booking())
    with Lab(books) as lab:
        points = lab.crash_everywhere("go", decisions=[allows(answer="4A")])

    assert {point.entry for point in points} == {"intent", "step", "suspend", "finish"}
    assert lab.last is not None
    assert lab.last.text == "seat 4A of {'held': 7}"


def test_a_tool_that_asks_for_ever_is_given_up() -> None:
    class Asks(Booking):
        async def call(self, given: Any, *, idempotency_key: str | None = None) -> ToolOutput:
            raise InputNeeded(Question("And?"), None)

    BOOKING.append(Asks())
    with Lab(books) as lab:
        turn = lab.turn("go")
        while turn.asks is not None:
            turn = lab.decide()

    assert turn.text == "book asked more than 8 questions: it was given up"


def test_a_question_that_is_too_large_is_not_put_before_anybody() -> None:
    class Floods(Booking):
        async def call(self, given: Any, *, idempotency_key: str | None = None) -> ToolOutput:
            raise InputNeeded(Question("x" * 100_000), None)

    BOOKING.append(Floods())
    with Lab(books) as lab:
        turn = lab.turn("go")

    assert (turn.asks, "at most 65536 are put before a user" in turn.text) == (None, True)
