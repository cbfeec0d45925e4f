"""Agents that end badly, one way each, to see what that does to others. Know no fault, no broker."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from workers.agent import AgentTurn, agent
from workers.apart import Given
from workers.context import Context


@agent(name="poison-raises", version="1", uses_model=False)
async def raises(turn: AgentTurn, ctx: Context) -> str:
    """A bug."""
    raise ValueError(f"no agent can answer {turn.text}")


@agent(name="poison-hangs", version="1", uses_model=False)
async def hangs(turn: AgentTurn, ctx: Context) -> str:
    """Waits for what never comes; its deadline ends it."""
    await asyncio.Event().wait()
    return ""


@agent(name="poison-apart", version="1", uses_model=False, process=True)
def apart(turn: AgentTurn, given: Given) -> str:
    """Ends its process, which is its own."""
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


@agent(name="poison-kills", version="1", uses_model=False)
async def kills(turn: AgentTurn, ctx: Context) -> str:
    """Ends its process, which is the worker."""
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


@agent(name="poison-blocks", version="1", uses_model=False)
async def blocks(turn: AgentTurn, ctx: Context) -> str:
    """Never gives the worker's loop back."""
    time.sleep(3_600)  # noqa: ASYNC251 - on purpose
    return ""


agents = [raises, hangs, apart, kills, blocks]
