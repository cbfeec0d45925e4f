"""An agent asks for a decision: its attempt ends, another one gets what was decided."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import pytest

from schemas.codes import Code
from schemas.entries import ControlNote, Step, Suspend
from schemas.errors import TerminalError
from schemas.frames import FRAME, ApprovalRequested
from tests.support.stage import NOON_MS, Stage, Told, settle
from workers.agent import AgentTurn, Decision
from workers.context import Context


async def _pays(turn: AgentTurn, ctx: Context) -> str:
    ctx.emit("I would pay. ")
    decision = await ctx.approval("pay?", name="pay", arguments={"eur": 5}, call="c1", expires_s=60)
    return f"I would pay. {decision.allowed} by {decision.by}"


def asked(stage: Stage) -> Suspend:
    """What the attempt ended with."""
    (entry,) = [entry for entry in stage.link.entries if isinstance(entry, Suspend)]
    return entry


def decided(call: str = "c1", kind: Literal["approve", "deny"] = "approve", by: str = "u", **value: Any) -> ControlNote:
    given: dict[str, Any] = {"op": "o", "turn": "t1", "tenant": "default", "user": "u", "at_ms": NOON_MS}
    return ControlNote(kind=kind, call=call, by=by, value=value or None, **given)


def resumed(agent: Any, first: Stage, *notes: ControlNote, model: Told | None = None) -> Stage:
    stage = Stage(agent, model, attempt=2, steps=first.link.steps)
    turn = stage.job.turn
    stage.job.turn = turn._replace(asked=(asked(first),), decisions=notes)
    return stage


async def test_the_question_is_in_the_journal_with_its_frame_and_the_attempt_ends_without_a_result() -> None:
    stage = Stage(_pays)
    running = stage.start()
    await settle()
    assert (stage.results, running.over) == ([], True)
    entry = asked(stage)
    assert (entry.call, entry.step, entry.name, entry.text) == ("c1", 0, "pay", "I would pay. ")
    assert entry.deadline_ms == NOON_MS + 60_000
    frame = FRAME.validate_json(entry.frames[0])
    assert isinstance(frame, ApprovalRequested)
    assert (frame.kind, frame.name, frame.arguments, frame.message) == ("tool_call", "pay", {"eur": 5}, "pay?")
    assert frame.seq == 1 + max(shown["seq"] for shown in stage.frames)
    assert stage.types == ["started", "delta"]


async def test_a_later_attempt_gets_the_decision_and_keeps_it_as_a_step() -> None:
    first = Stage(_pays)
    first.start()
    await settle()
    again = resumed(_pays, first, decided(arguments={"eur": 4}, note="less"))
    result = await again.play()
    assert result.text == "I would pay. True by u"
    (step,) = again.link.steps
    assert (step.kind, step.name, step.call) == ("approval", "pay", "c1")
    assert step.result == {"allowed": True, "by": "u", "arguments": {"eur": 4}, "answer": None, "note": "less"}

    third = Stage(_pays, attempt=3, steps=again.link.steps)
    assert (await third.play()).text == "I would pay. True by u"
    assert third.link.entries == []


async def test_denied_by_the_deadline_is_a_decision_like_another() -> None:
    seen: list[Decision] = []

    async def agent(turn: AgentTurn, ctx: Context) -> None:
        seen.append(await ctx.approval("really?", call="c1"))

    first = Stage(agent)
    first.start()
    await settle()
    await resumed(agent, first, decided(kind="deny", by="deadline")).play()
    assert seen == [Decision(False, "deadline")]


async def test_a_call_is_named_by_its_turn_and_step_where_the_model_gave_no_id() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> None:
        await ctx.step("one", lambda: 1)
        await ctx.approval("really?")

    stage = Stage(agent)
    stage.start()
    await settle()
    assert (asked(stage).call, asked(stage).name) == ("t1.1", "question")


async def test_other_arguments_than_those_that_were_approved_are_not_approved() -> None:
    async def changed(turn: AgentTurn, ctx: Context) -> None:
        await ctx.approval("pay?", name="pay", arguments={"eur": 5_000}, call="c1", expires_s=60)

    first = Stage(_pays)
    first.start()
    await settle()
    result = await resumed(changed, first, decided()).play()
    assert (result.code, result.outcome) == (Code.AGENT_ERROR, "failed")
    assert "step 0: approval 'pay' has other arguments now" in result.message


async def test_another_step_where_a_decision_was_asked_for_fails_typed_and_names_both() -> None:
    async def changed(turn: AgentTurn, ctx: Context) -> None:
        await ctx.step("pay", lambda: 1)

    first = Stage(_pays)
    first.start()
    await settle()
    result = await resumed(changed, first, decided()).play()
    assert result.message == (
        "step 0: the journal holds approval 'pay', the agent now asks for step 'pay'; its code changed under the turn"
    )


async def test_it_waits_until_no_other_step_is_in_progress() -> None:
    gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def slow() -> int:
        return await asyncio.shield(gate)

    async def agent(turn: AgentTurn, ctx: Context) -> None:
        await asyncio.gather(ctx.step("slow", slow), ctx.approval("pay?", call="c1"))

    stage = Stage(agent)
    stage.start()
    await settle()
    assert stage.link.entries == []
    gate.set_result(7)
    await settle()
    kinds = [type(entry) for entry in stage.link.entries]
    assert kinds == [Step, Suspend]
    assert asked(stage).step == 1


async def test_of_two_that_are_asked_at_once_the_second_follows_after_the_first_decision() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> str:
        one, two = await asyncio.gather(ctx.approval("one?", call="c1"), ctx.approval("two?", call="c2"))
        return f"{one.allowed} {two.allowed}"

    first = Stage(agent)
    first.start()
    await settle()
    assert asked(first).call == "c1"
    second = resumed(agent, first, decided())
    second.start()
    await settle()
    assert asked(second).call == "c2"
    third = Stage(agent, attempt=3, steps=second.link.steps)
    third.job.turn = third.job.turn._replace(
        asked=(asked(first), asked(second)), decisions=(decided(), decided("c2", "deny"))
    )
    assert (await third.play()).text == "True False"


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
async def test_a_time_that_has_passed_is_refused(seconds: float) -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> None:
        await ctx.approval("pay?", expires_s=seconds)

    result = await Stage(agent).play()
    assert (result.code, result.outcome) == (Code.AGENT_ERROR, "failed")


async def test_what_is_no_json_is_refused() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> str:
        with pytest.raises(TerminalError):
            await ctx.approval("pay?", name="pay", arguments={"x": object()})  # type: ignore[dict-item]
        return "no"

    assert (await Stage(agent).play()).outcome == "completed"


async def test_nothing_is_shown_after_the_question_got_its_number() -> None:
    door: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def agent(turn: AgentTurn, ctx: Context) -> None:
        async def talks() -> None:
            await door
            ctx.branch("b").emit("by the way")
            ctx.state("plan", ["x"])

        await asyncio.gather(ctx.approval("pay?", call="c1"), talks())

    stage = Stage(agent)
    stage.link.gate = asyncio.get_running_loop().create_future()
    stage.start()
    await settle()
    door.set_result(None)  # the SUSPEND is being written
    await settle()
    stage.time.advance(1)
    stage.link.gate.set_result(None)
    await settle()

    assert max(frame["seq"] for frame in stage.frames) < json.loads(asked(stage).frames[0])["seq"]
