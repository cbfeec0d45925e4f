"""Approvals with whole workers: a turn is suspended, decided, denied in time, taken elsewhere; what waits is parked."""

from __future__ import annotations

import asyncio
from typing import Any

from journal.memory_parts import MemoryTimers
from tests.support.memory_fleet import MemoryFleet
from workers.agent import AgentTurn, agent
from workers.context import Context

EXPIRES_S = 60.0


def asks(expires_s: float = EXPIRES_S) -> Any:
    calls: list[str] = []

    @agent(name="asks", version="1")
    async def asks(turn: AgentTurn, ctx: Context) -> str:
        if turn.text != "ask":
            return f"plain {turn.text}"
        await ctx.step("look", lambda: calls.append("look"))
        ctx.emit("May I? ")
        decision = await ctx.approval("may I?", name="pay", arguments={"eur": 5}, expires_s=expires_s)
        return f"May I? {'yes' if decision.allowed else 'no'}, says {decision.by}"

    return asks, calls


def texts(fleet: MemoryFleet) -> dict[str, str]:
    return {name: frame["text"] for name, frames in fleet.terminals().items() for frame in frames}


async def suspended(fleet: MemoryFleet, session: str = "s1", turn: str = "t1") -> str:
    """A turn of `session` awaits a decision on the call that is returned."""
    fleet.turn(session, "ask", turn=turn, user="u")
    await fleet.until(lambda: fleet.frames(session, "approval_requested"))
    return str(fleet.frames(session, "approval_requested")[-1]["call"])


async def test_a_decision_resumes_the_turn_and_steps_are_not_made_again() -> None:
    spec, calls = asks()
    async with MemoryFleet(spec, default="asks") as fleet:
        worker = await fleet.worker()
        call = await suspended(fleet)
        await fleet.until(
            lambda: fleet.committed_everything() and worker.system.slots.free == worker.system.slots.count
        )
        assert worker.system.executor.running == set()
        fleet.control("s1", kind="approve", op="a", turn="t1", call=call, decision="allow", user="u")
        await fleet.until(lambda: fleet.terminals())
        await fleet.until(fleet.committed_everything)
        assert texts(fleet) == {"s1~t1": "May I? yes, says u"}
        assert calls == ["look"]
        kinds = [(frame["type"], frame.get("attempt")) for frame in fleet.frames("s1") if frame["type"] != "delta"]
        assert kinds == [
            ("started", 1),
            ("step", 1),
            ("approval_requested", 1),
            ("approval_decided", 1),
            ("ack", None),
            ("started", 2),
            ("reset", 2),
            ("step", 2),
            ("completed", 2),
        ]
        order = [(frame["attempt"], frame["seq"]) for frame in fleet.frames("s1") if "seq" in frame]
        assert order == sorted(order) and len(set(order)) == len(order)
        assert [item.text for item in (await fleet.state("s1")).history] == ["ask", "May I? yes, says u"]


async def test_nobody_decides_and_the_deadline_denies() -> None:
    spec, _ = asks(expires_s=0.05)
    async with MemoryFleet(spec, default="asks") as fleet:
        await fleet.worker()
        await suspended(fleet)
        await fleet.until(lambda: fleet.terminals())
        assert texts(fleet) == {"s1~t1": "May I? no, says deadline"}
        timers = fleet.store.timers
        assert isinstance(timers, MemoryTimers)
        await fleet.until(lambda: not timers.armed)


async def test_another_worker_resumes_it_on_a_decision_or_in_time() -> None:
    spec, _ = asks(expires_s=0.6)
    async with MemoryFleet(spec, default="asks") as fleet:
        first = await fleet.worker()
        calls = {session: await suspended(fleet, session) for session in ("s1", "s2")}
        await fleet.until(fleet.committed_everything)
        await first.drain()
        fleet.workers.clear()
        await fleet.worker()
        fleet.control("s1", kind="approve", op="a", turn="t1", call=calls["s1"], decision="allow", user="u")
        await fleet.until(lambda: len(fleet.terminals()) == 2)
        assert texts(fleet) == {"s1~t1": "May I? yes, says u", "s2~t1": "May I? no, says deadline"}


async def test_what_comes_meanwhile_is_parked_and_runs_in_order_afterwards() -> None:
    spec, _ = asks()
    async with MemoryFleet(spec, default="asks") as fleet:
        worker = await fleet.worker()
        call = await suspended(fleet)
        for number in range(5):
            fleet.turn("s1", str(number), turn=f"p{number}", user="u")
        while len((await fleet.state("s1")).parked) < 5:
            await asyncio.sleep(0.01)
        await fleet.until(lambda: fleet.committed_everything() and worker.system.waiting == 0)
        assert [parked.turn for parked in (await fleet.state("s1")).parked] == [f"p{number}" for number in range(5)]
        assert fleet.terminals() == {}
        fleet.turn("s2", "x", turn="other", user="u")  # nobody else waits
        await fleet.until(lambda: "s2~other" in fleet.terminals())
        fleet.control("s1", kind="approve", op="a", turn="t1", call=call, decision="deny", user="u")
        await fleet.until(lambda: len(fleet.terminals()) == 7)
        ends = [frame["turn"] for frame in fleet.frames("s1", "completed")]
        assert ends == ["t1", "p0", "p1", "p2", "p3", "p4"]


async def test_many_suspended_turns_hold_no_slot_no_offset_and_no_actor() -> None:
    spec, _ = asks()
    async with MemoryFleet(spec, default="asks", worker_slots=8) as fleet:
        worker = await fleet.worker()
        for number in range(300):
            fleet.turn(f"s{number}", "ask", turn="t", user="u")
        await fleet.until(lambda: len(fleet.frames(kind="approval_requested")) == 300)
        await fleet.until(fleet.committed_everything)
        await asyncio.sleep(0.05)
        assert worker.system.slots.free == 8
        assert all(not partition.actors for partition in worker.system.partitions.values())
