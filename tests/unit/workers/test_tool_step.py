"""A tool with side effects: its INTENT is durable before the call, and no attempt calls it twice by chance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from schemas.codes import Code
from schemas.entries import ControlNote, StepError
from schemas.errors import OutcomeUnknown, RetryableError, TerminalError
from schemas.history import ToolCall
from tests.support.stage import Run, Stage, Told, settle
from workers.agent import AgentTurn
from workers.context import Context
from workers.job import TurnLost
from workers.model_step import call_id
from workers.models.port import ModelDone
from workers.tool_step import takes_key

C1 = call_id("t1", "", 0, 0)
ASKED = ToolCall(call="c1", name="pay", arguments={"cents": 5})
UNKNOWN = f"tool 'pay', call {C1}: whether it took effect is unknown; it was not called again"


class Bank:
    """Counts calls. `hangs`: a call never returns."""

    def __init__(self, *, hangs: bool = False, error: Exception | None = None) -> None:
        self.calls: list[Any] = []
        self.hangs = hangs
        self.error = error

    async def pay(self, cents: int) -> str:
        return await self._do(cents)

    async def pay_once(self, cents: int, *, idempotency_key: str) -> str:
        return await self._do(idempotency_key)

    async def _do(self, what: Any) -> str:
        self.calls.append(what)
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.error is not None:
            raise self.error
        return "paid"


def paying(function: Callable[..., Any], **more: Any) -> Run:
    """A model asks for the call, the tool is called, a second step follows."""

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        await ctx.model()
        result = await ctx.tool("pay", function, {"cents": 5}, call=C1, **more)
        await ctx.step("book", lambda: 1)
        return f"{ctx.text}{result}"

    return agent


def told() -> Told:
    return Told(["I pay. ", ModelDone(calls=(ASKED,))])


async def interrupted(function: Callable[..., Any], **more: Any) -> Stage:
    """An attempt whose worker dies while the tool is at work."""
    stage = Stage(paying(function, **more), told())
    running = stage.start()
    await settle()
    running.abandon()
    await settle()
    assert stage.results == []
    return stage


async def test_the_intent_is_durable_before_the_call_and_the_step_after_it() -> None:
    seen: list[list[str]] = []
    stage: Stage

    async def pay(cents: int) -> str:
        seen.append([entry.k for entry in stage.link.entries])
        return "paid"

    stage = Stage(paying(pay), told())
    result = await stage.play()
    assert seen == [["step", "intent"]]
    assert [entry.k for entry in stage.link.entries] == ["step", "intent", "step", "step"]
    (intent,) = stage.link.intents
    step = stage.link.steps[1]
    assert (intent.step, intent.name, intent.call, intent.digest) == (1, "pay", C1, step.digest)
    assert (step.call, step.result, step.error, len(intent.key)) == (C1, "paid", None, 32)
    assert result.text == "I pay. paid"


async def test_no_call_is_made_while_the_intent_is_on_its_way_or_refused() -> None:
    bank = Bank()
    stage = Stage(paying(bank.pay), told())
    stage.start()
    await settle()
    assert bank.calls == [5]

    waiting = Stage(paying(bank.pay), told())
    waiting.link.gate = asyncio.get_running_loop().create_future()
    running = waiting.start()
    await settle()
    waiting.link.gate.set_result(None)  # the model's step
    waiting.link.lost = True
    await settle()
    assert (bank.calls, waiting.results) == ([5], [])
    running.abandon()


async def test_a_tool_that_only_reads_has_no_intent_and_is_called_again() -> None:
    bank = Bank(hangs=True)
    first = await interrupted(bank.pay, side_effects=False)
    assert first.link.intents == []
    bank.hangs = False
    again = Stage(paying(bank.pay, side_effects=False), told(), attempt=2, steps=first.link.steps)
    assert (await again.play()).outcome == "completed"
    assert bank.calls == [5, 5]


async def test_after_an_intent_without_a_step_the_outcome_is_unknown_and_nothing_is_called() -> None:
    bank = Bank(hangs=True)
    first = await interrupted(bank.pay)
    assert bank.calls == [5]
    again = Stage(paying(bank.pay), told(), attempt=2, steps=first.link.steps, intents=first.link.intents)
    result = await again.play()
    assert (result.outcome, result.code, result.message) == ("failed", Code.OUTCOME_UNKNOWN, UNKNOWN)
    assert bank.calls == [5]
    (step,) = again.link.steps
    assert (step.step, step.error) == (1, StepError(code=Code.OUTCOME_UNKNOWN, text=UNKNOWN))
    results = [frame for frame in again.frames if frame["type"] == "tool_result"]
    assert [(frame["call"], frame["is_error"]) for frame in results] == [(C1, True)]
    assert [(item.role, item.text, item.call) for item in result.history] == [
        ("assistant", "I pay. ", None),
        ("tool", UNKNOWN, C1),
    ]


async def test_an_agent_may_catch_it_and_every_later_attempt_meets_it_again() -> None:
    bank = Bank(hangs=True)
    caught: list[tuple[str, str]] = []

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        try:
            return str(await ctx.tool("pay", bank.pay, {"cents": 5}))
        except OutcomeUnknown as unknown:
            caught.append((unknown.name, unknown.call))
            return str(await ctx.step("look", lambda: "it was paid"))

    first = Stage(agent)
    running = first.start()
    await settle()
    running.abandon()
    second = Stage(agent, attempt=2, intents=first.link.intents)
    assert (await second.play()).text == "it was paid"
    third = Stage(agent, attempt=3, steps=second.link.steps)
    assert (await third.play()).text == "it was paid"
    assert (caught, bank.calls, third.link.entries) == ([("pay", "t1.0")] * 2, [5], [])


async def test_an_idempotent_tool_is_called_again_with_the_same_key() -> None:
    bank = Bank(hangs=True)
    first = await interrupted(bank.pay_once)
    again = Stage(paying(bank.pay_once), told(), attempt=2, steps=first.link.steps, intents=first.link.intents)
    await settle()
    again.start()
    await settle()
    bank.hangs = False
    last = Stage(paying(bank.pay_once), told(), attempt=3, steps=first.link.steps, intents=first.link.intents)
    result = await last.play()
    assert (result.outcome, again.link.intents, last.link.intents) == ("completed", [], [])
    assert bank.calls == [first.link.intents[0].key] * 3


async def test_another_call_has_another_key() -> None:
    bank = Bank()

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        for _ in range(2):
            await ctx.tool("pay", bank.pay_once, {"cents": 5})
        await ctx.tool("pay", bank.pay_once, {"cents": 6})
        return "ok"

    await Stage(agent).play()
    assert len(set(bank.calls)) == 3


@pytest.mark.parametrize("side_effects", [True, False])
async def test_a_tool_that_takes_a_key_has_an_intent_whatever_its_caller_says(side_effects: bool) -> None:
    bank = Bank()
    stage = Stage(paying(bank.pay_once, side_effects=side_effects), told())
    await stage.play()
    assert [intent.key for intent in stage.link.intents] == bank.calls


async def test_a_caller_cannot_choose_the_key() -> None:
    bank = Bank()

    async def agent(turn: AgentTurn, ctx: Context) -> None:
        await ctx.tool("pay", bank.pay_once, {"cents": 5, "idempotency_key": "mine"})

    result = await Stage(agent).play()
    assert (result.code, bank.calls) == (Code.TOOL_ERROR, [])
    assert result.message == "tool 'pay': idempotency_key is given by the worker, not by a caller"


@pytest.mark.parametrize(
    "error",
    [OSError("no route"), TerminalError(Code.QUOTA, "spent"), RetryableError("later", code=Code.TOOL_ERROR, after_s=2)],
)
async def test_what_a_tool_with_side_effects_raises_is_kept_and_raised_again(error: Exception) -> None:
    bank = Bank(error=error)
    caught: list[tuple[type[Exception], str, Any]] = []

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        try:
            await ctx.tool("pay", bank.pay, {"cents": 5})
        except (RetryableError, TerminalError) as failed:
            caught.append((type(failed), str(failed), getattr(failed, "after_s", None)))
        await ctx.step("book", lambda: 1)
        return "told"

    first = Stage(agent)
    await first.play()
    again = Stage(agent, attempt=2, steps=first.link.steps)
    assert (await again.play()).text == "told"
    assert caught[0] == caught[1]
    assert (bank.calls, again.link.entries) == ([5], [])


async def test_a_result_that_cannot_be_kept_is_an_error_that_is_kept() -> None:
    calls: list[int] = []

    def pay(cents: int) -> Any:
        calls.append(cents)
        return "x" * 5_000_000

    first = Stage(paying(pay), told())
    assert (await first.play()).code == Code.TOO_LARGE
    again = Stage(paying(pay), told(), attempt=2, steps=first.link.steps)
    assert (await again.play()).code == Code.TOO_LARGE
    assert calls == [5]


async def test_a_cancelled_turn_says_that_the_outcome_of_its_call_is_unknown() -> None:
    stage = Stage(paying(Bank(hangs=True).pay), told())
    running = stage.start()
    await settle()
    running.stop("user")
    await settle()
    (result,) = stage.results
    assert [(item.role, item.text, item.calls, item.call, item.partial) for item in result.history] == [
        ("assistant", "I pay. ", (ASKED.model_copy(update={"call": C1}),), None, True),
        ("tool", UNKNOWN, (), C1, True),
    ]
    assert result.text == "I pay. "


async def test_so_does_one_that_is_cancelled_before_its_next_attempt_came_that_far() -> None:
    first = await interrupted(Bank(hangs=True).pay)
    again = Stage(paying(Bank().pay), told(), attempt=2, steps=first.link.steps, intents=first.link.intents)
    running = again.start()
    running.stop("user")
    again.time.advance(0)
    (result,) = again.results
    assert [(item.role, item.text, item.call) for item in result.history] == [
        ("assistant", "I pay. ", None),
        ("tool", UNKNOWN, C1),
    ]
    assert (result.text, again.link.entries) == ("I pay. ", [])


async def test_a_turn_that_ends_while_a_call_of_its_own_is_at_work_says_it_too() -> None:
    bank = Bank(hangs=True)
    tasks: list[asyncio.Task[Any]] = []

    async def agent(turn: AgentTurn, ctx: Context) -> None:
        await ctx.model()
        tasks.append(asyncio.ensure_future(ctx.tool("pay", bank.pay, {"cents": 5}, call=C1)))
        while not bank.calls:
            await asyncio.sleep(0)

    result = await Stage(agent, told()).play()
    assert [(item.role, item.text) for item in result.history] == [("assistant", "I pay. "), ("tool", UNKNOWN)]
    tasks[0].cancel()


async def _reads(turn: AgentTurn, ctx: Context) -> str:
    return str(await ctx.step("read", lambda: 1))


async def _pays_more(turn: AgentTurn, ctx: Context) -> str:
    return str(await ctx.tool("pay", Bank().pay, {"cents": 6}))


async def _ends(turn: AgentTurn, ctx: Context) -> str:
    return "nothing to pay"


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        (_reads, "step 0: the journal holds the intent of tool 'pay', the agent now asks for step 'read'; "),
        (_pays_more, "step 0: tool 'pay' has other arguments now ("),
        (_ends, "step 0: the journal holds the intent of tool 'pay', the agent ended without it; "),
    ],
)
async def test_code_that_changed_under_an_intent_ends_the_turn_and_names_both(agent: Run, message: str) -> None:
    bank = Bank(hangs=True)

    async def before(turn: AgentTurn, ctx: Context) -> None:
        await ctx.tool("pay", bank.pay, {"cents": 5})

    first = Stage(before)
    running = first.start()
    await settle()
    running.abandon()
    result = await Stage(agent, attempt=2, intents=first.link.intents).play()
    assert result.code == Code.AGENT_ERROR
    assert result.message.startswith(message)


async def test_calls_side_by_side_have_an_intent_each() -> None:
    bank = Bank(hangs=True)

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        calls = [ctx.tool("pay", bank.pay, {"cents": cents}) for cents in (1, 2)]
        said = await asyncio.gather(*calls, return_exceptions=True)
        return ", ".join(type(one).__name__ for one in said)

    first = Stage(agent)
    running = first.start()
    await settle()
    running.abandon()
    assert [intent.step for intent in first.link.intents] == [0, 1]
    again = Stage(agent, attempt=2, intents=first.link.intents)
    assert (await again.play()).text == "OutcomeUnknown, OutcomeUnknown"
    assert bank.calls == [1, 2]


async def test_a_worker_that_lost_the_session_writes_nothing_of_what_came() -> None:
    bank = Bank()

    async def agent(turn: AgentTurn, ctx: Context) -> None:
        stage.link.lost = bool(stage.link.entries)
        with pytest.raises(TurnLost):
            await ctx.tool("pay", pay, {"cents": 5})
        raise TurnLost

    async def pay(cents: int) -> str:
        stage.link.lost = True
        return await bank.pay(cents)

    stage = Stage(agent)
    stage.start()
    await settle()
    assert (bank.calls, stage.link.steps, stage.results) == ([5], [], [])
    assert len(stage.link.intents) == 1


def note(op: str) -> ControlNote:
    return ControlNote(at_ms=5, op=op, kind="steer", turn="t1", tenant="default", user="ann", value=f"said {op}")


async def test_what_was_heard_before_an_intent_is_heard_again_before_it_and_no_more() -> None:
    bank = Bank(hangs=True)
    heard: list[list[str]] = []

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        heard.append([item.text for item in ctx.steers()])
        try:
            await ctx.tool("pay", bank.pay, {"cents": len(heard[-1])})
        except OutcomeUnknown:
            heard.append([item.text for item in ctx.steers()])
        return "ok"

    first = Stage(agent)
    running = first.start()
    running.steer(note("a"))
    await settle()
    running.abandon()
    assert [intent.steers for intent in first.link.intents] == [("a",)]

    again = Stage(agent, attempt=2, intents=first.link.intents)
    again.start()
    for op in "ab":
        next(iter(again.executor.running)).steer(note(op))
    await settle()
    assert heard == [["said a"], ["said a"], ["said b"]]
    assert [step.steers for step in again.link.steps] == [("a",)]


async def test_a_cancel_before_the_next_attempt_came_that_far_keeps_what_was_heard_in_its_place() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> None:
        await ctx.model()
        ctx.steers()
        await ctx.model("more")

    first = Stage(agent, Told(["One."], ["Two."]))
    first.start().steer(note("a"))
    await settle()
    again = Stage(agent, attempt=2, steps=first.link.steps)
    running = again.start()
    running.steer(note("a"))
    running.stop("user")
    again.time.advance(0)
    said = [(item.role, item.text) for item in again.results[0].history]
    assert said == [("assistant", "One."), ("user", "said a"), ("assistant", "Two.")]


def test_a_key_is_taken_by_a_parameter_of_that_name_alone() -> None:
    def yes(idempotency_key: str) -> None: ...
    def anything(**given: Any) -> None: ...
    def positional(idempotency_key: str, /) -> None: ...

    assert [takes_key(it) for it in (yes, anything, positional, dict, print)] == [True, False, False, False, False]
    assert takes_key(Bank().pay_once)
