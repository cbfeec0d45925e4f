"""The agent `starter-agent`: one model call over what was said before."""

from __future__ import annotations

from workers.agent import AgentTurn, Reply, agent
from workers.context import Context


@agent(
    name="starter-agent",
    version="1",
    description="Answers with one model call",
    instructions="You are a friendly assistant. Answer in one short paragraph, and say so when you do not know.",
)
async def starter_agent(turn: AgentTurn, ctx: Context) -> Reply:
    """What the model says streams to the user while it comes, and is the answer."""
    answer = await ctx.model((*ctx.history, ctx.message), system=ctx.instructions)
    return Reply(finish=answer.finish)


registry = [starter_agent]
