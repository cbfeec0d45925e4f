"""The agents of a chaos run: durable steps, a decision and branches, one that kills its process. Know no fault."""

from __future__ import annotations

import asyncio
import os
import signal

from workers.agent import Agent, AgentSpec, AgentTurn, Reply, SessionInfo
from workers.context import Context
from workers.side_by_side import side_by_side

STEPS, ASKS, POISON = "chaos-steps", "chaos-asks", "chaos-poison"
STEP_S = 0.15
DECIDED_S = 2.0  # then nobody has decided


def answer_of(turn: str, count: int) -> str:
    """What a turn of so many steps answers."""
    return "".join(f"[{turn}.{number}]" for number in range(count))


class Steps:
    """As many steps as the text says; the answer is made of their results."""

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply:
        """Each step takes a moment, and is shown when it is durable."""
        for number in range(int(turn.text)):
            ctx.emit(f"[{await ctx.step(f'step {number}', self._work, turn.id, number)}]")
        return Reply()

    async def _work(self, turn: str, number: int) -> str:
        await asyncio.sleep(STEP_S)
        return f"{turn}.{number}"


class Asks:
    """A step, a decision of its user's (or nobody's), then two branches at once; it writes down how many turns the
    session had. The answer is made of the results, whatever was decided."""

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply:
        """See the class."""
        ctx.emit(f"[{await ctx.step('before', self._work, turn.id, 0)}]")
        await ctx.approval("go on?", name="go", arguments={"turn": turn.id}, expires_s=DECIDED_S)
        works = [ctx.branch(name).step("after", self._work, turn.id, n) for n, name in enumerate(("a", "b"), 1)]
        ctx.emit("".join(f"[{result}]" for result in await side_by_side(works)))
        turns = ctx.kept.get("turns", 0)
        ctx.keep("turns", (turns if isinstance(turns, int) else 0) + 1)
        return Reply()

    async def _work(self, turn: str, number: int) -> str:
        await asyncio.sleep(STEP_S)
        return f"{turn}.{number}"


class Poison:
    """Every attempt ends with the whole process."""

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply:
        """Never returns."""
        os.kill(os.getpid(), signal.SIGKILL)
        return Reply("")


def agents() -> list[AgentSpec]:
    """For FLEET_AGENTS."""

    async def steps(spec: AgentSpec, session: SessionInfo) -> Agent:
        return Steps()

    async def asks(spec: AgentSpec, session: SessionInfo) -> Agent:
        return Asks()

    async def poison(spec: AgentSpec, session: SessionInfo) -> Agent:
        return Poison()

    return [
        AgentSpec(name=STEPS, version="1", build=steps, description="For chaos runs: durable steps"),
        AgentSpec(name=ASKS, version="1", build=asks, description="For chaos runs: a decision, and branches"),
        AgentSpec(name=POISON, version="1", build=poison, description="For chaos runs: kills its process"),
    ]
