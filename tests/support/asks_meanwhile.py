"""An agent with one tool that asks its user while it is called: in a turn `brief` for a moment only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from schemas.history import ToolCall
from workers.agent import AgentTurn, agent
from workers.context import Context
from workers.tools.calling import call_tool
from workers.tools.exchange import EXCHANGE, Question
from workers.tools.tool import Tool, ToolOutput, ToolPolicy
from workers.tools.toolbox import Toolbox

SIZE: dict[str, Any] = {
    "type": "object",
    "properties": {"size": {"type": "string"}, "note": {"type": "string"}},
    "required": ["size"],
}


async def order(given: Mapping[str, JsonValue], *, idempotency_key: str | None = None) -> ToolOutput:
    """Orders, once its user said which size."""
    ask = EXCHANGE.get().ask
    assert ask is not None
    answer = await ask(Question("Which size?", SIZE))
    return ToolOutput.said(f"{answer.allowed} {answer.content}")


async def run(turn: AgentTurn, ctx: Context) -> str:
    policy = ToolPolicy(timeout_s=2.0 if turn.text == "brief" else 60.0)
    toolbox = Toolbox([Tool("order", "", {}, order, policy)], ctx.info)
    made = await call_tool(ctx, toolbox, ToolCall(call=f"{turn.id}.c", name="order", arguments={}))
    return "".join(getattr(part, "text", "") for part in made.parts)


orders = agent(name="orders", version="1")(run)
