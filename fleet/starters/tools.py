"""The agent `starter-agent`: a model with two tools, of which one is carried out only when its user allows it."""

from __future__ import annotations

from workers.agent import AgentTurn, Reply, agent
from workers.context import Context
from workers.tools.calling import call_all
from workers.tools.tool import tool

PRICES = {"tea": 3, "cake": 5}
ROUNDS = 8


@tool(read_only=True)
async def price(item: str) -> int | str:
    """Tells what an item costs."""
    return PRICES.get(item, "there is no such item")


@tool(approval=True)
async def order(item: str, pieces: int, idempotency_key: str) -> str:
    """Orders some pieces of an item."""
    return f"ordered {pieces} {item}"  # whoever takes the order carries out one key once


@agent(
    name="starter-agent",
    version="1",
    description="A model with tools",
    instructions="You sell tea and cake. Look up prices, never guess them; order what the user asks for.",
    tools=[price, order],
)
async def starter_agent(turn: AgentTurn, ctx: Context) -> Reply:
    """Ask the model, carry out what it asks for, until it answers."""
    said = [*ctx.history, ctx.message]
    for _ in range(ROUNDS):
        answer = await ctx.model(said, system=ctx.instructions, tools=ctx.tools.specs)
        if not answer.calls:
            return Reply(finish=answer.finish)
        said += [answer.message, *await call_all(ctx, ctx.tools, answer.calls)]
    return Reply(f"I gave up after {ROUNDS} rounds.", finish="limit")


registry = [starter_agent]
