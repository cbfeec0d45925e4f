"""A turn of the kit waits for a decision, and goes on with it."""

from __future__ import annotations

import pytest

from fleet.testing import Lab
from workers.agent import AgentTurn, agent
from workers.context import Context


@agent(name="payer", version="1")
async def payer(turn: AgentTurn, ctx: Context) -> str:
    decision = await ctx.approval("Pay?", name="pay", arguments={"cents": 5}, expires_s=3600)
    return f"{decision.allowed} {decision.by} {decision.arguments} {decision.answer} {decision.note}"


@agent(name="asker", version="1")
async def asker(turn: AgentTurn, ctx: Context) -> str:
    first = await ctx.approval("Which?", schema={"type": "string"})
    second = await ctx.approval("Sure?")
    return f"{first.answer} {second.allowed}"


def test_a_turn_that_asks_is_suspended_and_says_what_it_asks() -> None:
    turn = Lab(payer).turn("pay")

    assert turn.outcome == "suspended"
    assert turn.asks is not None
    assert (turn.asks.name, turn.asks.arguments, turn.asks.message) == ("pay", {"cents": 5}, "Pay?")
    assert turn.asks.expires_s == 3600


def test_a_decision_resumes_it_with_all_that_came_with_it() -> None:
    lab = Lab(payer)
    lab.turn("pay")

    turn = lab.decide(allow=True, arguments={"cents": 3}, answer="yes", note="less", by="boss")

    assert (turn.outcome, turn.text) == ("completed", "True boss {'cents': 3} yes less")
    assert (turn.attempts, turn.steps) == (2, ("pay",))
    assert "approval_decided" in [frame["type"] for frame in turn.frames]


def test_several_decisions_come_one_by_one() -> None:
    lab = Lab(asker)
    first = lab.turn("go")
    second = lab.decide(answer="red")
    third = lab.decide(False)

    assert first.asks and first.asks.schema == {"type": "string"}
    assert second.asks and second.asks.message == "Sure?"
    assert third.text == "red False"


def test_time_that_passes_denies_it() -> None:
    lab = Lab(payer, deadline_s=60)
    lab.turn("pay")

    assert lab.wait(3000).outcome == "suspended"
    turn = lab.wait(600)

    assert (turn.outcome, turn.text.split()[:2]) == ("completed", ["False", "deadline"])


def test_a_suspended_turn_blocks_the_next_one_and_a_free_session_has_nothing_to_decide() -> None:
    lab = Lab(payer)
    with pytest.raises(AssertionError, match="no turn awaits a decision: decide"):
        lab.decide()
    lab.turn("pay")
    with pytest.raises(AssertionError, match="turn t1 awaits a decision"):
        lab.turn("more")
