"""A tool that asks its user while it is called, with whole workers: answered, cancelled, drained, lost, watched."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schemas.history import ToolCall
from tests.support.memory_fleet import MemoryFleet
from workers.agent import AgentTurn, agent
from workers.context import Context
from workers.tools.calling import call_tool
from workers.tools.exchange import EXCHANGE, Answer, Question
from workers.tools.tool import Tool, ToolOutput, ToolPolicy
from workers.tools.toolbox import Toolbox

SIZE: dict[str, Any] = {"type": "object", "properties": {"size": {"type": "string"}}, "required": ["size"]}
HOLDERS: list[Answer] = []


def orders(timeout_s: float = 30.0, *, read_only: bool = False, stubborn: bool = False) -> Any:
    """`stubborn`: what its server asks waits on beside the call, as over a connection of its own."""

    async def call(given: Any, *, idempotency_key: str | None = None) -> ToolOutput:
        ask = EXCHANGE.get().ask
        assert ask is not None

        async def of_the_server() -> Answer:
            answer = await ask(Question("Which size?", SIZE))
            HOLDERS.append(answer)
            return answer

        answer = await asyncio.shield(asyncio.create_task(of_the_server()))
        return ToolOutput.said(f"{answer.allowed} {answer.content}")

    @agent(name="orders", version="1")
    async def orders(turn: AgentTurn, ctx: Context) -> str:
        tool = Tool("order", "", {}, call, ToolPolicy(timeout_s=timeout_s, read_only=read_only))
        asked = ToolCall(call="c", name="order", arguments={})
        made = await call_tool(ctx, Toolbox([tool], ctx.info), asked)
        return "".join(getattr(part, "text", "") for part in made.parts)

    HOLDERS.clear()
    return orders


async def asked(fleet: MemoryFleet, number: int = 1, turn: str = "t1") -> dict[str, Any]:
    """The question that the turn's user sees, the `number`-th."""
    await fleet.until(lambda: len(fleet.frames("s1", "approval_requested")) >= number)
    return fleet.frames("s1", "approval_requested")[number - 1]


def decides(fleet: MemoryFleet, call: str, op: str = "a", *, user: str = "u", **more: Any) -> None:
    given = {"decision": "allow", "answer": {"size": "S"}, **more}
    fleet.control("s1", kind="approve", op=op, turn="t1", call=call, user=user, **given)


def acks(fleet: MemoryFleet) -> dict[str, str]:
    return {frame["op"]: frame["state"] for frame in fleet.frames("s1", "ack")}


def outcome(fleet: MemoryFleet) -> list[tuple[str, str, int]]:
    return [(frame["type"], frame.get("text", ""), frame["attempt"]) for (frame,) in fleet.terminals().values()]


async def test_an_answer_reaches_the_call_and_the_turn_keeps_its_slot_and_its_attempt() -> None:
    async with MemoryFleet(orders(), default="orders") as fleet:
        worker = await fleet.worker()
        fleet.turn("s1", "go", turn="t1", user="u")
        question = await asked(fleet)
        assert worker.system.slots.count - worker.system.slots.free == 1
        assert (await fleet.state("s1")).open is not None
        decides(fleet, question["call"], "x", user="mallory")
        decides(fleet, question["call"], "y", answer={"colour": "red"})
        await fleet.until(lambda: acks(fleet) == {"x": "unknown", "y": "refused"})
        decides(fleet, question["call"])
        decides(fleet, question["call"], "b", decision="deny")
        await fleet.until(lambda: fleet.terminals() and "b" in acks(fleet))
        await fleet.until(fleet.committed_everything)
        assert outcome(fleet) == [("completed", "True {'size': 'S'}", 1)]
        assert (acks(fleet)["a"], acks(fleet)["b"]) == ("applied", "too_late")
        decided = [(frame["call"], frame["decision"], frame["by"]) for frame in fleet.frames("s1", "approval_decided")]
        assert decided == [(question["call"], "allow", "u")]
        order = [(frame["attempt"], frame["seq"]) for frame in fleet.frames("s1") if "seq" in frame]
        assert order == sorted(set(order))
        decides(fleet, question["call"], "late")
        await fleet.until(lambda: acks(fleet).get("late") == "too_late")


async def test_nobody_answers_and_the_call_still_ends_by_itself() -> None:
    async with MemoryFleet(orders(timeout_s=0.3), default="orders") as fleet:
        await fleet.worker()
        fleet.turn("s1", "go", turn="t1", user="u")
        question = await asked(fleet)
        await fleet.until(lambda: fleet.terminals())
        assert outcome(fleet) == [("completed", "False None", 1)]
        (decided,) = fleet.frames("s1", "approval_decided")
        assert (decided["call"], decided["by"]) == (question["call"], "deadline")
        await fleet.until(fleet.committed_everything)


async def test_a_cancel_declines_it_at_once() -> None:
    async with MemoryFleet(orders(), default="orders") as fleet:
        await fleet.worker()
        fleet.turn("s1", "go", turn="t1", user="u")
        question = await asked(fleet)
        fleet.control("s1", kind="cancel", op="x", turn="t1", user="u")
        await fleet.until(lambda: fleet.terminals())
        assert [kind for kind, _, _ in outcome(fleet)] == ["cancelled"]
        assert [Answer(allowed=False)] == HOLDERS
        decides(fleet, question["call"])
        await fleet.until(lambda: acks(fleet).get("a") == "too_late")


async def test_a_worker_that_leaves_declines_it_and_waits_for_nobody() -> None:
    async with MemoryFleet(orders(), default="orders", worker_drain_s=0.05, worker_grace_s=20.0) as fleet:
        first = await fleet.worker()
        fleet.turn("s1", "go", turn="t1", user="u")
        await asked(fleet)
        began_s = asyncio.get_running_loop().time()
        await first.drain()
        fleet.workers.clear()
        assert asyncio.get_running_loop().time() - began_s < 10.0
        assert [Answer(allowed=False)] == HOLDERS
        (decided,) = fleet.frames("s1", "approval_decided")
        assert decided["by"] == "withdrawn"
        await fleet.worker()
        await fleet.until(lambda: fleet.terminals())
        assert [(kind, text) for kind, text, _ in outcome(fleet)] == [
            ("completed", "False None")
        ]  # its STEP was durable


@pytest.mark.parametrize("read_only", [True, False])
async def test_where_the_worker_dies_the_calls_policy_says_what_becomes_of_it(read_only: bool) -> None:
    async with MemoryFleet(orders(read_only=read_only), default="orders") as fleet:
        first = await fleet.worker()
        fleet.turn("s1", "go", turn="t1", user="u")
        question = await asked(fleet)
        for partition in first.system.partitions.values():  # all that is its own goes, and nothing is said
            for actor in list(partition.actors.values()):
                actor.lost(release=False)
        assert fleet.frames("s1", "approval_decided") == []
        await first.drain()
        fleet.workers.clear()
        assert [Answer(allowed=False)] == HOLDERS
        await fleet.worker()
        if read_only:
            again = await asked(fleet, 2)
            assert (again["attempt"], again["call"] != question["call"]) == (2, True)
            decides(fleet, question["call"], "old")
            await fleet.until(lambda: acks(fleet).get("old") == "unknown")
            decides(fleet, again["call"])
        await fleet.until(lambda: fleet.terminals())
        ((kind, text, attempt),) = outcome(fleet)
        assert (kind, attempt) == ("completed", 2)
        assert ("True {'size': 'S'}" if read_only else "unknown") in text


async def test_whoever_watches_later_is_asked_too() -> None:
    async with MemoryFleet(orders(), default="orders") as fleet:
        await fleet.worker()
        fleet.turn("s1", "go", turn="t1", user="u")
        question = await asked(fleet)
        watch = b'{"kind":"watch","op":"w","turn":"t1","user":"u"}'
        fleet.raw("agent.control", b"s1", watch, headers=(("reply_to", b"1:g"),))
        again = await asked(fleet, 2)
        assert again["call"] == question["call"]
        decides(fleet, again["call"])
        await fleet.until(lambda: fleet.terminals())
