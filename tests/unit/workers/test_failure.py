"""Failures that an agent goes on from: kept like results, and met again in every attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fleet.testing import Lab, fails, says
from schemas.codes import Code
from schemas.errors import RetryableError, TerminalError
from schemas.frames import Usage
from tests.support.stage import INFO, Stage, Told, settle
from workers.agent import AgentTurn, agent
from workers.agents.workflow.agent import workflow
from workers.agents.workflow.nodes import Ask, Do, Parallel, Seq
from workers.context import Context
from workers.models.port import ModelUnavailable
from workers.side_by_side import side_by_side


class Flaky:
    """Fails once, then would do."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.calls = 0

    def __call__(self, *args: Any, **named: Any) -> str:
        self.calls += 1
        if self.calls == 1:
            raise self.error
        return "done"


Works = Callable[[Context, Flaky], Any]
WORKS: dict[str, Works] = {
    "step": lambda ctx, flaky: ctx.step("flaky", flaky),
    "tool": lambda ctx, flaky: ctx.tool("flaky", flaky, {}),
    "reading tool": lambda ctx, flaky: ctx.tool("flaky", flaky, {}, side_effects=False),
    "delegate": lambda ctx, flaky: ctx.delegate("flaky", flaky, {}),
    "compute": lambda ctx, flaky: ctx.compute("flaky", flaky),
}


class Children:
    """Calls in this process."""

    async def call(self, what: str, function: Flaky, args: Any) -> Any:
        return function(*args)


@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
@pytest.mark.parametrize("error", [ZeroDivisionError("of 1"), RetryableError("later", after_s=3)])
async def test_a_failure_that_the_agent_goes_on_from_is_the_same_in_a_later_attempt(
    work: Works, error: Exception
) -> None:
    flaky, told = Flaky(error), []

    async def goes_on(turn: AgentTurn, ctx: Context) -> str:
        try:
            await work(ctx, flaky)
        except (RetryableError, TerminalError) as failure:
            told.append((type(failure), failure.code, str(failure), getattr(failure, "after_s", None)))
            return str(await ctx.step("instead", lambda: "instead"))
        return "done"

    first = Stage(goes_on, children=Children())  # type: ignore[arg-type]
    assert (await first.play()).text == "instead"
    again = Stage(goes_on, attempt=2, steps=first.link.steps, intents=first.link.intents, children=Children())  # type: ignore[arg-type]
    result = await again.play()

    assert (result.outcome, result.text, flaky.calls) == ("completed", "instead", 1), result.message
    assert told[0] == told[1]


@pytest.mark.parametrize("show", [True, False])
def test_a_model_that_failed_is_not_asked_again_by_an_agent_that_went_on(show: bool) -> None:
    @agent(name="careful", version="1")
    async def careful(turn: AgentTurn, ctx: Context) -> str | None:
        try:
            await ctx.model("?", show=show)
        except RetryableError as error:
            await ctx.model(f"What now? {error.code}")
        return None

    script = [fails("cut", "I thi"), fails(500), says("Sorry.", usage=(3, 2))]
    with Lab(careful, model=script, model_attempts=2) as lab:
        points = lab.crash_everywhere("go")
        assert lab.last is not None and lab.last.text == "Sorry."
    assert {point.outcome.text for point in points} == {"Sorry."}
    assert {len(point.outcome.steps) for point in points} == {2}


async def test_what_a_failed_call_cost_is_counted_once_whoever_ends_the_turn() -> None:
    async def goes_on(turn: AgentTurn, ctx: Context) -> str:
        try:
            await ctx.model("?")
        except RetryableError:
            return str(await ctx.step("instead", lambda: "instead"))
        return "done"

    paid = Usage(model="told", input_tokens=7, output_tokens=1)
    cut = ModelUnavailable("cut")
    cut.usage = paid
    booked = paid.model_copy(update={"estimated": True})  # what was told before a cut may not be all
    told = Told(["Hal", cut])
    first = Stage(goes_on, told, model_attempts=1)
    result = await first.play()
    again = Stage(goes_on, told, model_attempts=1, attempt=2, steps=first.link.steps)
    later = await again.play()

    assert (result.usage, result.model_calls) == ((booked,), 1)
    assert (later.usage, later.model_calls, len(told.requests)) == ((booked,), 1, 1)
    assert (result.text, later.text) == ("instead", "instead")
    assert [it.id for it in later.history] == [it.id for it in result.history]


def test_what_was_shown_of_a_call_that_fails_the_turn_is_there_wherever_the_worker_dies() -> None:
    @agent(name="plain", version="1")
    async def plain(turn: AgentTurn, ctx: Context) -> None:
        await ctx.model("?")

    lab = Lab(plain, model=[fails("cut", "I thi")] * 20, model_attempts=1)
    with lab:
        lab.crash_everywhere("go")
        assert lab.last is not None
        assert (lab.last.outcome, lab.last.text) == ("failed", "I thi")


async def test_branches_of_a_workflow_fail_the_same_again() -> None:
    flaky = Flaky(ValueError("no"))
    graph = Seq((Parallel({"a": Do("a", flaky), "b": Ask("b", "hi")}), Ask("answer", "{a} {b}")))
    spec = workflow(graph, name="w", version="1")
    first = Stage(await spec.build(spec, INFO), Told(["yes"]))
    result = await first.play()
    again = Stage(await spec.build(spec, INFO), Told(["yes"]), attempt=2, steps=first.link.steps)

    assert (result.code, result.message) == (Code.AGENT_ERROR, "step 'a' raised ValueError: no")
    assert ((await again.play()).message, flaky.calls) == (result.message, 1)


async def test_a_decision_waits_until_a_computation_beside_it_is_durable() -> None:
    door: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    class Slow:
        async def call(self, what: str, function: Any, args: Any) -> int:
            return await door

    async def both(turn: AgentTurn, ctx: Context) -> str:
        await side_by_side([ctx.branch("b").compute("slow", max, 1, 2), ctx.branch("a").approval("?")])
        return "never"

    stage = Stage(both, children=Slow())  # type: ignore[arg-type]
    running = stage.start()
    await settle()
    assert (stage.link.entries, running.at_boundary) == ([], False)
    door.set_result(5)
    await settle()
    assert [entry.k for entry in stage.link.entries] == ["step", "suspend"]
