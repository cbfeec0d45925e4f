"""The agents of a chaos run: one that works in durable steps, one that kills its process. Know no fault, no broker."""

from __future__ import annotations

import asyncio
import os
import signal

from workers.agent import Agent, AgentSpec, AgentTurn, Reply, SessionInfo
from workers.context import Context

STEPS, POISON = "chaos-steps", "chaos-poison"
STEP_S = 0.15


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

    async def poison(spec: AgentSpec, session: SessionInfo) -> Agent:
        return Poison()

    return [
        AgentSpec(name=STEPS, version="1", build=steps, description="For chaos runs: durable steps"),
        AgentSpec(name=POISON, version="1", build=poison, description="For chaos runs: kills its process"),
    ]
