"""What pydantic-ai's agent costs as one of ours: `python -m tests.support.pydantic_ai_bench`. No broker, no database.

CPU of a step (a model call or a tool call) of a whole turn, over the same agent's own `run` with a function as its
model, interleaved.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any, cast

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from tests.support.agents_bench import STEPS, Looking
from tests.support.stage import INFO, Stage
from workers.adapters.pydantic_ai import pydantic_ai_agent
from workers.tools.tool import ToolPolicy

ROUNDS = 60
looker = Agent(name="looker", instructions="Help.")


@looker.tool_plain
async def look(n: int) -> str:
    """Looks."""
    return f"saw {n}"


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    done = sum(isinstance(message, ModelResponse) for message in messages)
    if done < STEPS:
        return ModelResponse([ToolCallPart("look", {"n": done}, f"c{done}")])
    return ModelResponse([TextPart("Done.")])


async def turn(agent: Any) -> float:
    """Seconds of CPU."""
    stage = Stage(agent, Looking(), deadline_s=600)
    began = time.process_time()
    stage.start()
    while not stage.results:
        await asyncio.sleep(0)
    assert stage.results[0].outcome == "completed", stage.results[0].message
    return time.process_time() - began


async def own() -> float:
    began = time.process_time()
    await looker.run("hi", model=FunctionModel(answer))
    return time.process_time() - began


async def main() -> None:
    spec = pydantic_ai_agent(looker, version="1", policies={"look": ToolPolicy(read_only=True)})
    agent = cast(Any, await spec.build(spec, INFO))
    pairs = [(await turn(agent), await own()) for _ in range(ROUNDS)][5:]
    steps = 2 * STEPS + 1
    over = [(ours - theirs) * 1e6 / steps for ours, theirs in pairs]
    ours, theirs = (statistics.median(pair[place] for pair in pairs) * 1e6 / steps for place in (0, 1))
    print(f"{ours:.0f} us a step, {theirs:.0f} us of its own run: {statistics.median(over):.0f} us over it")


if __name__ == "__main__":
    asyncio.run(main())
