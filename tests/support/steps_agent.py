"""Agents for worker processes under test, as `FLEET_AGENTS` names them: what a step does leaves a line in a file.

The turn's text is `STEPS SECONDS`: so many steps, each so long. `stubborn` swallows its cancellation in its one step.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from workers.agent import AgentTurn, agent
from workers.context import Context

LOG = "STEPS_LOG"


async def _work(turn: str, number: int, seconds: float) -> int:
    with Path(os.environ[LOG]).open("a") as log:  # a short line is appended as a whole
        log.write(f"{turn} {number}\n")
    await asyncio.sleep(seconds)
    return number


@agent(name="steps", version="1")
async def steps(turn: AgentTurn, ctx: Context) -> str:
    count, seconds = turn.text.split()
    for number in range(int(count)):
        await ctx.step(f"s{number}", _work, turn.id, number, float(seconds))
    return "done"


async def _deaf(turn: str) -> int:
    await _work(turn, 0, 0)
    for _ in range(60):
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            continue
    return 0


@agent(name="stubborn", version="1")
async def stubborn(turn: AgentTurn, ctx: Context) -> str:
    await ctx.step("deaf", _deaf, turn.id)
    return "done"


registry = [steps, stubborn]
