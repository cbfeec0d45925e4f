"""A turn that calls MCP tools: progress becomes frames, a server's question is put before the turn's user."""

from __future__ import annotations

import asyncio
from typing import Any

from schemas.entries import Suspend
from schemas.history import ToolCall
from tests.support.mcp_hosts import Hosted, hosted, served
from tests.support.stage import Stage
from workers.agent import AgentTurn
from workers.context import Context
from workers.tools.calling import call_tool
from workers.tools.toolbox import Toolbox


async def played(made: Hosted, name: str, **arguments: Any) -> Stage:
    """A stage on which an agent made one call."""

    async def run(turn: AgentTurn, ctx: Context) -> str:
        toolbox = Toolbox(await made.host.tools(ctx.info), ctx.info)
        output = await call_tool(ctx, toolbox, ToolCall(call="c1", name=name, arguments=arguments))
        return "".join(getattr(part, "text", "") for part in output.parts)

    stage = Stage(run)
    stage.start()
    async with asyncio.timeout(30):
        while not stage.results and not any(isinstance(entry, Suspend) for entry in stage.link.entries):
            await asyncio.sleep(0.01)
    return stage


async def test_progress_of_a_server_becomes_frames() -> None:
    async with served() as at, hosted(it=at.config()) as made:
        stage = await played(made, "steps")
    told = [frame["value"] for frame in stage.frames if frame["type"] == "state" and frame["name"] == "progress:c1"]
    assert told[0] == {"tool": "steps", "done": 1.0, "total": 3.0, "message": "step 1"}
    assert told[-1]["done"] == 3.0
    assert stage.results[0].text == "all steps"


async def test_a_question_of_a_server_suspends_the_turn() -> None:
    async with served() as at, hosted(it=at.config(era="2026-07-28")) as made:
        stage = await played(made, "order", what="shoes")
    (asked,) = [entry for entry in stage.link.entries if isinstance(entry, Suspend)]
    assert "Which size of shoes?" in asked.frames[0]
    paused = [step for step in stage.link.steps if step.call == "c1"]
    assert "state" in str(paused[0])  # the server's state is durable before its user is asked


async def test_an_error_of_a_server_is_told_to_the_model() -> None:
    async with served() as at, hosted(it=at.config()) as made:
        stage = await played(made, "fail")
        assert "fail" in stage.results[0].text
        stage = await played(made, "leave")
        assert "leave failed: leave: its " in stage.results[0].text or "is away" in stage.results[0].text
