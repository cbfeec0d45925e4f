"""Agents that do what an agent must not do, one deed for each text. `FLEET_AGENTS=tests.support.bad_agents:agents`."""

from __future__ import annotations

import asyncio
import re
import time

from workers.agent import AgentTurn, agent
from workers.context import Context


@agent(name="bad", version="1", uses_model=False)
async def bad(turn: AgentTurn, ctx: Context) -> str | None:
    """`sleep` blocks the loop for good, `lock` keeps the interpreter's lock for good, `steps N`: N steps of 0.1 s."""
    deed, _, number = turn.text.partition(" ")
    if deed == "sleep":
        time.sleep(3_600)
    elif deed == "lock":
        re.match(r"(a+)+$", "a" * 64 + "b")
    elif deed == "steps":
        for step in range(int(number)):
            await asyncio.sleep(0.1)
            ctx.emit(f"{step} ")
            await ctx.step(f"step {step}", lambda: None)
        return None
    return f"done: {turn.text}"


agents = [bad]
