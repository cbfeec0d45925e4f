"""The agents of the simulation: they answer what their journal must hold, and say when they run. Know no engine."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from pydantic import JsonValue

from schemas.errors import RetryableError
from workers.agent import Agent, AgentSpec, AgentTurn, Reply, SessionInfo
from workers.context import Context
from workers.models.port import ModelRequest, ModelUnavailable
from workers.models.scripted import Script

KILLS, RAISES = "kills its process", "raises"


class Steps:
    """Up to four steps whose results are never the same twice; the answer is made of them alone.

    `began(turn)`: an attempt begins to run; `kill()`: the process ends here.
    """

    def __init__(self, chances: random.Random, began: Callable[[str], None], kill: Callable[[], None]) -> None:
        self._chances = chances
        self._began = began
        self._kill = kill
        self._made = 0

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply:
        self._began(turn.id)
        if turn.text == KILLS:
            self._kill()
            await asyncio.Event().wait()
        if turn.text == RAISES:
            raise RuntimeError("as the turn asks")
        said: list[str] = []
        heard: list[JsonValue] = []
        for number in range(int(turn.text.split()[-1])):
            if int(turn.id[1:]) % 2:  # every other turn listens while it runs, the others are run again
                heard += [item.text for item in ctx.steers()]
            result = await ctx.step(f"s{number}", self._work, turn.id, number, heard)
            ctx.emit(f"[{result}]")
            said.append(f"[{result}]")
        return Reply("".join(said))

    async def _work(self, turn: str, number: int, _heard: list[JsonValue]) -> str:
        self._made += 1
        made = self._made
        await asyncio.sleep(self._chances.choice((0, 0.01, 0.1, 0.4)))
        return f"{turn}.{number}.{made}"


def steps(agent: Steps) -> AgentSpec:
    """How it is registered."""

    async def build(_spec: AgentSpec, _session: SessionInfo) -> Agent:
        await asyncio.sleep(0.001)
        return agent

    return AgentSpec(name="steps", version="1", build=build, description="Steps with results of their own")


def answers(chances: random.Random) -> Callable[[ModelRequest], Script]:
    """What the scripted model says: the number of messages that it saw, at some pace; some calls fail and pass."""

    def answer(request: ModelRequest) -> Script:
        drawn = chances.random()
        error: RetryableError | None = ModelUnavailable("by script") if drawn < 0.08 else None
        tokens = (f"{request.turn}", " saw", f" {len(request.messages)}")
        cut = 1 if error is not None and drawn < 0.04 else None
        return Script(tokens, first_s=0.02, pace_s=chances.choice((0.0, 0.05, 0.2)), error=error, cut_after=cut)

    return answer
