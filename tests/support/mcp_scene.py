"""A turn that makes one call of an MCP server's tool, and whoever answers what that asks meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

from schemas.entries import ControlNote
from schemas.history import ToolCall
from tests.support.mcp_hosts import Hosted
from tests.support.stage import NOON_MS, Stage
from workers.agent import AgentTurn
from workers.context import Context
from workers.tools.calling import call_tool
from workers.tools.toolbox import Toolbox


class Scene:
    """The turn has begun when this is made."""

    def __init__(self, made: Hosted, name: str, **arguments: Any) -> None:
        async def run(turn: AgentTurn, ctx: Context) -> str:
            toolbox = Toolbox(await made.host.tools(ctx.info), ctx.info)
            output = await call_tool(ctx, toolbox, ToolCall(call="c1", name=name, arguments=arguments))
            return "".join(getattr(part, "text", "") for part in output.parts)

        self.stage = Stage(run)
        self.stage.link.asks = {}
        self.running = self.stage.start()

    def frames(self, kind: str) -> list[dict[str, Any]]:
        return [frame for frame in self.stage.frames if frame["type"] == kind]

    async def asked(self, number: int = 1) -> list[dict[str, Any]]:
        """So many questions, as they are shown."""
        async with asyncio.timeout(20):
            while len(self.frames("approval_requested")) < number:
                assert not self.stage.results, self.stage.results
                await asyncio.sleep(0.01)
        return self.frames("approval_requested")

    def decide(self, call: str, *, allowed: bool = True, **value: Any) -> None:
        """Its session has written it down."""
        kind: Any = "approve" if allowed else "deny"
        self.running.decided(
            ControlNote(at_ms=NOON_MS, op="o", kind=kind, turn="t1", tenant="d", user="ann", call=call, value=value)
        )

    async def text(self) -> str:
        """What the model is told."""
        async with asyncio.timeout(30):
            while not self.stage.results:
                await asyncio.sleep(0.01)
        (result,) = self.stage.results
        return result.text
