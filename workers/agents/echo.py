"""The agent `echo`: answers with its input. Calls no model and no tool."""

from __future__ import annotations

from schemas.parts import DataPart, FilePart, Part
from workers.agent import Agent, AgentSpec, AgentTurn, Reply, SessionInfo
from workers.context import Context


class Echo:
    """One instance serves every session: it has no state."""

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply:
        """The input's text, then a line for each part that is no text."""
        if not turn.parts:
            return Reply(turn.text)
        return Reply("\n".join(filter(None, (turn.text, *map(_note, turn.parts)))))


def spec() -> AgentSpec:
    """How `echo` is registered."""
    built = Echo()

    async def build(spec: AgentSpec, session: SessionInfo) -> Agent:
        return built

    return AgentSpec(
        name="echo", version="1", build=build, description="Answers with its input; no model", uses_model=False
    )


def _note(part: Part) -> str:
    if isinstance(part, FilePart):
        return f"[file {part.name or part.media_type}]"
    return "[data]" if isinstance(part, DataPart) else part.text
