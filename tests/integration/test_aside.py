"""Later turns are answered while one waits for a decision, with whole workers: what it sees, where its answer lands."""

from __future__ import annotations

from typing import Any

from tests.support.memory_fleet import MemoryFleet
from workers.agent import AgentTurn, agent
from workers.context import Context


def asks() -> Any:
    """An agent whose sessions go on, and what its attempts saw."""
    seen: dict[str, list[tuple[list[str], dict[str, Any]]]] = {}

    @agent(name="asks", version="1", on_suspended="first")
    async def asks(turn: AgentTurn, ctx: Context) -> str:
        saw = seen.setdefault(turn.id, [])
        saw.append(([item.id for item in ctx.history], dict(ctx.kept)))
        ctx.keep(turn.id, len(ctx.history))
        if not turn.text.startswith("ask"):
            return f"plain {turn.text}"
        await ctx.step(f"look at {len(ctx.history)}", lambda: None)
        ctx.emit("May I? ")
        expires_s = 0.1 if turn.text == "ask shortly" else 60.0
        decision = await ctx.approval("may I?", name="pay", expires_s=expires_s)
        return f"May I? {'yes' if decision.allowed else 'no'}, says {decision.by}"

    return asks, seen


async def call_of(fleet: MemoryFleet, turn: str) -> str:
    """The call that `turn` asks about."""
    await fleet.until(lambda: any(frame["turn"] == turn for frame in fleet.frames("s1", "approval_requested")))
    return next(str(frame["call"]) for frame in fleet.frames("s1", "approval_requested") if frame["turn"] == turn)


def approve(fleet: MemoryFleet, turn: str, call: str) -> None:
    fleet.control("s1", kind="approve", op=f"a-{turn}", turn=turn, call=call, decision="allow", user="u")


async def test_later_turns_are_answered_and_it_ends_last() -> None:
    spec, seen = asks()
    async with MemoryFleet(spec, default="asks") as fleet:
        await fleet.worker()
        fleet.turn("s1", "hi", turn="t0", user="u")
        fleet.turn("s1", "ask", turn="t1", user="u")
        call = await call_of(fleet, "t1")
        fleet.turn("s1", "two", turn="t2", user="u")
        fleet.turn("s1", "three", turn="t3", user="u")
        await fleet.until(lambda: len(fleet.terminals()) == 3)
        await fleet.until(fleet.committed_everything)
        assert [turn.turn for turn in (await fleet.state("s1")).aside] == ["t1"]
        approve(fleet, "t1", call)
        await fleet.until(lambda: len(fleet.terminals()) == 4)
        await fleet.until(fleet.committed_everything)
        state = await fleet.state("s1")
        assert [item.text for item in state.history][2:] == [
            "two",
            "plain two",
            "three",
            "plain three",
            "ask",
            "May I? yes, says u",
        ]
        assert seen["t1"] == [(["t0~0", "t0~1"], {"t0": 0})] * 2
        assert state.kept == {"t0": 0, "t2": 2, "t3": 4, "t1": 2}
        assert state.at_rest


async def test_another_worker_finishes_what_stands_aside() -> None:
    spec, seen = asks()
    async with MemoryFleet(spec, default="asks") as fleet:
        worker = await fleet.worker()
        fleet.turn("s1", "ask", turn="t1", user="u")
        fleet.turn("s1", "ask", turn="t2", user="u")
        calls = [await call_of(fleet, "t1"), await call_of(fleet, "t2")]
        await fleet.until(fleet.committed_everything)
        await worker.drain()
        fleet.workers.clear()
        await fleet.worker()
        fleet.turn("s1", "three", turn="t3", user="u")
        await fleet.until(lambda: fleet.terminals())
        approve(fleet, "t2", calls[1])
        await fleet.until(lambda: len(fleet.terminals()) == 2)
        approve(fleet, "t1", calls[0])
        await fleet.until(lambda: len(fleet.terminals()) == 3)
        await fleet.until(fleet.committed_everything)
        turns = [item.turn for item in (await fleet.state("s1")).history]
        assert list(dict.fromkeys(turns)) == ["t3", "t2", "t1"]
        assert all(saw == ([], {}) for turn in ("t1", "t2") for saw in seen[turn])


async def test_nobody_decides_and_the_deadline_denies_it_while_others_run() -> None:
    spec, _ = asks()
    async with MemoryFleet(spec, default="asks") as fleet:
        await fleet.worker()
        fleet.turn("s1", "ask shortly", turn="t1", user="u")
        fleet.turn("s1", "two", turn="t2", user="u")
        await fleet.until(lambda: len(fleet.terminals()) == 2)
        assert [frame["turn"] for frame in fleet.frames("s1", "completed")] == ["t2", "t1"]
        texts = {name: frame["text"] for name, frames in fleet.terminals().items() for frame in frames}
        assert texts == {"s1~t2": "plain two", "s1~t1": "May I? no, says deadline"}
