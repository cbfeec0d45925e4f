"""Agents that are plain functions and run in a process of their own. Knows what crosses over and back, as JSON."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import JsonValue, TypeAdapter

from schemas.codes import Code
from schemas.errors import TerminalError
from schemas.history import HistoryItem
from schemas.parts import PARTS
from workers.agent import AgentTurn, Reply, SessionInfo, Work
from workers.child import found

if TYPE_CHECKING:
    from workers.context import Context

_HISTORY: TypeAdapter[tuple[HistoryItem, ...]] = TypeAdapter(tuple[HistoryItem, ...])


class Given(NamedTuple):
    """What there is of a `Context` in a process of its own: whose session it is, what was said before this turn, and
    when the turn must be over (epoch milliseconds). No model, no steps, nothing streams."""

    info: SessionInfo
    history: tuple[HistoryItem, ...]
    deadline: int

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline, never below 0."""
        return max(self.deadline / 1000 - time.time(), 0.0)


class Apart:
    """Such a function as an agent: its whole turn is one step, `run`."""

    __slots__ = ("_place", "_work")

    def __init__(self, work: Work) -> None:
        self._work = work
        self._place = f"{work.__module__}:{work.__qualname__}"

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply:
        brought: dict[str, JsonValue] = {
            "id": turn.id,
            "text": turn.text,
            "parts": PARTS.dump_json(turn.parts).decode(),
            "metadata": dict(turn.metadata),
            "options": dict(turn.options),
            "tools": list(turn.tools) if turn.tools is not None else None,
        }
        history = _HISTORY.dump_json(tuple(ctx.history)).decode()
        text, data, finish = await ctx.compute("run", run, self._place, brought, list(ctx.info), history, ctx.deadline)
        return Reply(text, data, finish)


def run(place: str, brought: dict[str, Any], info: list[str], history: str, deadline: int) -> list[JsonValue]:
    """In the child: call the function, check what it returns."""
    brought["parts"] = PARTS.validate_json(brought["parts"])
    brought["tools"] = tuple(brought["tools"]) if brought["tools"] is not None else None
    given = Given(SessionInfo(*info), _HISTORY.validate_json(history), deadline)
    reply = found(place)(AgentTurn(**brought), given)
    reply = Reply(reply) if isinstance(reply, str) else Reply() if reply is None else reply
    if not isinstance(reply, Reply):
        raise TerminalError(Code.AGENT_ERROR, f"the agent returned {type(reply).__name__}, want Reply, str or None")
    return [reply.text, reply.data, reply.finish]
