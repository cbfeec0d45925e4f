"""Agents that do what an agent must not do, in a whole worker: a typed outcome each, the worker lives, the session and
its neighbours go on. What blocks the loop or ends the process: `test_stalled_worker.py`, `test_dead_letters.py`."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import pytest

from tests.support.memory_fleet import MemoryFleet
from workers.agent import AgentSpec, AgentTurn, Reply, SessionInfo, agent
from workers.context import Context

Deed = Callable[[AgentTurn, Context], Coroutine[Any, Any, Any]]
Outcome = tuple[str, str | None]
COMPLETED: Outcome = ("completed", None)
AGENT_ERROR: Outcome = ("failed", "agent_error")


async def raises(turn: AgentTurn, ctx: Context) -> None:
    raise ValueError("no")


async def hangs(turn: AgentTurn, ctx: Context) -> None:
    await asyncio.get_running_loop().create_future()


async def hangs_and_swallows(turn: AgentTurn, ctx: Context) -> str:
    while True:
        try:
            await asyncio.sleep(3)
            return "I was not stopped"
        except asyncio.CancelledError:
            continue


async def exits(turn: AgentTurn, ctx: Context) -> None:
    sys.exit("bye")


async def interrupts(turn: AgentTurn, ctx: Context) -> None:
    raise KeyboardInterrupt


async def closes_itself(turn: AgentTurn, ctx: Context) -> None:
    raise GeneratorExit


async def cancels_itself(turn: AgentTurn, ctx: Context) -> None:
    raise asyncio.CancelledError


async def _exit() -> None:
    await asyncio.sleep(0)
    sys.exit("from a task")


async def exits_in_a_task(turn: AgentTurn, ctx: Context) -> None:
    await asyncio.create_task(_exit())


async def exits_in_a_group(turn: AgentTurn, ctx: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_exit())
        group.create_task(asyncio.sleep(10))


async def exits_in_a_task_that_nobody_awaits(turn: AgentTurn, ctx: Context) -> str:
    LEFT.append(asyncio.create_task(_exit()))
    return "fine"


async def exits_in_a_thread(turn: AgentTurn, ctx: Context) -> None:
    def leave() -> None:
        sys.exit("from a thread")

    await asyncio.to_thread(leave)


async def says_nothing(turn: AgentTurn, ctx: Context) -> None:
    return


async def says_ten_megabytes(turn: AgentTurn, ctx: Context) -> str:
    return "x" * 10_000_000


async def shows_ten_megabytes(turn: AgentTurn, ctx: Context) -> None:
    for _ in range(1_000):
        ctx.emit("x" * 10_000)


async def makes_a_step_of_ten_megabytes(turn: AgentTurn, ctx: Context) -> str:
    await ctx.step("large", lambda: "x" * 10_000_000)
    return "never"


async def returns_a_number(turn: AgentTurn, ctx: Context) -> int:
    return 7


async def returns_twice(turn: AgentTurn, ctx: Context) -> str:
    try:
        return "first"
    finally:
        return "second"  # noqa: B012, SIM107


async def goes_on_after_its_end(turn: AgentTurn, ctx: Context) -> str:
    async def later() -> None:
        await asyncio.sleep(0.02)
        for _ in range(2):
            try:
                ctx.emit("late")
            except BaseException as error:  # noqa: BLE001
                AFTER.append(type(error).__name__)
        await ctx.step("late", lambda: 1)

    LEFT.append(asyncio.create_task(later()))
    return "the end"


async def leaves_a_thousand_tasks(turn: AgentTurn, ctx: Context) -> str:
    LEFT.extend(asyncio.create_task(asyncio.sleep(3_600)) for _ in range(1_000))
    return "there they are"


LEFT: list[asyncio.Task[Any]] = []
AFTER: list[str] = []
DEEDS: list[tuple[Deed, Outcome]] = [
    (raises, AGENT_ERROR),
    (hangs, ("failed", "deadline_exceeded")),
    (hangs_and_swallows, ("failed", "deadline_exceeded")),
    (exits, AGENT_ERROR),
    (interrupts, AGENT_ERROR),
    (closes_itself, AGENT_ERROR),
    (cancels_itself, AGENT_ERROR),
    (exits_in_a_task, AGENT_ERROR),
    (exits_in_a_group, AGENT_ERROR),
    (exits_in_a_task_that_nobody_awaits, COMPLETED),
    (exits_in_a_thread, AGENT_ERROR),
    (says_nothing, AGENT_ERROR),
    (says_ten_megabytes, ("failed", "too_large")),
    (shows_ten_megabytes, ("failed", "too_large")),
    (makes_a_step_of_ten_megabytes, ("failed", "too_large")),
    (returns_a_number, AGENT_ERROR),
    (returns_twice, COMPLETED),
    (goes_on_after_its_end, COMPLETED),
    (leaves_a_thousand_tasks, COMPLETED),
]


def spec_of(deed: Deed) -> AgentSpec:
    @agent(name="bad", version="1", uses_model=False)
    async def bad(turn: AgentTurn, ctx: Context) -> Reply | str | None:
        if turn.text == "fine":
            return "fine"
        answer: Reply | str | None = await deed(turn, ctx)
        return answer

    return bad


@pytest.mark.parametrize(("deed", "outcome"), DEEDS, ids=[deed.__name__ for deed, _ in DEEDS])
async def test_the_turn_ends_typed_once_and_session_neighbours_and_worker_go_on(deed: Deed, outcome: Outcome) -> None:
    LEFT.clear()
    AFTER.clear()
    async with MemoryFleet(spec_of(deed), default="bad", worker_slots=4) as fleet:
        worker = await fleet.worker()
        deadline_ms = fleet.clock_ms() + (300 if outcome[1] == "deadline_exceeded" else 60_000)
        for number in range(3):
            fleet.turn(f"n{number}", "beside", turn="t1", agent="echo")
        fleet.turn("s1", "bad", turn="t1", deadline_ms=deadline_ms)
        fleet.turn("s1", "fine", turn="t2")
        for number in range(3):
            fleet.turn(f"n{number}", "beside", turn="t2", agent="echo")
        began_s = time.monotonic()
        await fleet.until(lambda: len(fleet.terminals()) == 8)
        assert time.monotonic() - began_s < 3
        await asyncio.sleep(0.05)
        ends = {name: [(end["type"], end.get("code")) for end in all_] for name, all_ in fleet.terminals().items()}
        assert ends.pop("s1~t1") == [outcome]
        assert set(map(tuple, ends.values())) == {(COMPLETED,)}
        await fleet.until(fleet.committed_everything)
        rows = [fleet.store.log.rows[key] for key in sorted(fleet.store.log.rows) if key[0] == "default/s1"]
        assert [row.kind for row in rows].count("finish") == 2
        steps = [orjson.loads(row.body or b"{}") for row in rows if row.kind == "step"]
        assert [step["error"]["code"] for step in steps] == ["too_large"] * (deed is makes_a_step_of_ten_megabytes)
        assert not worker.stopping.is_set()
        assert worker.system.slots.free == 4
        assert all(len(frame.get("text", "")) < 500_000 for frame in fleet.frames())
        await end_of_tasks()


async def test_what_an_agent_says_after_its_end_is_lost_and_written_nowhere() -> None:
    LEFT.clear()
    AFTER.clear()
    async with MemoryFleet(spec_of(goes_on_after_its_end), default="bad") as fleet:
        await fleet.worker()
        fleet.turn("s1", "bad", turn="t1")
        await fleet.until(lambda: LEFT and LEFT[0].done())
        assert AFTER == ["TurnLost", "TurnLost"]
        assert type(LEFT[0].exception()).__name__ == "TurnLost"
        assert [frame["type"] for frame in fleet.frames("s1")] == ["completed"]
        state = await fleet.state("s1")
        assert [item.text for item in state.history] == ["bad", "the end"]


class _Never:
    async def run(self, turn: AgentTurn, ctx: Context) -> str:
        return "never"


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()], ids=repr
)
async def test_a_builder_that_raises_ends_the_turn_typed_and_gives_its_slot_back(error: BaseException) -> None:
    async def build(spec: AgentSpec, session: SessionInfo) -> _Never:
        raise error

    async with MemoryFleet(AgentSpec("unbuilt", "1", build), default="echo") as fleet:
        worker = await fleet.worker()
        for turn in ("t1", "t2"):
            fleet.turn("s1", "x", turn=turn, agent="unbuilt")
        fleet.turn("n1", "x", turn="t1")
        await fleet.until(lambda: len(fleet.terminals()) == 3)
        ends = {name: [(end["type"], end.get("code")) for end in all_] for name, all_ in fleet.terminals().items()}
        assert ends == {"s1~t1": [AGENT_ERROR], "s1~t2": [AGENT_ERROR], "n1~t1": [COMPLETED]}
        assert worker.system.slots.free == worker.system.slots.count
        assert not worker.stopping.is_set()


async def end_of_tasks() -> None:
    """What agents left behind ends with the test; what they raised there is read by nobody, as in a worker."""
    for task in LEFT:
        task.cancel()
    await asyncio.gather(*LEFT, return_exceptions=True)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    gc.collect()
    logging.getLogger("asyncio").setLevel(logging.NOTSET)
