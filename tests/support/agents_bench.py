"""What OneAgent's loop costs: `python -m tests.support.agents_bench`. In one process, no broker and no database.

Prints (1) the CPU of a step of the loop (a model call and what it asks for) over the same model calls made by an agent
that does nothing else, interleaved; (2) memory and CPU of a thousand OneAgent turns in flight, wave after wave; (3) a
hit of the session pool and a build of the agent; (4) the share of a turn's input that its session sent before, from
turn 3 on, as the provider of a prefix cache would count it.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import orjson
import psutil

from schemas.frames import Usage
from schemas.history import HistoryItem, ToolCall
from tests.support.stage import INFO, Function, Stage
from workers.agent import AgentTurn, assistant, user
from workers.agents.one.agent import One
from workers.agents.one.agent import spec as one
from workers.agents.one.loop import Bounds
from workers.builder import Builder
from workers.context import Context
from workers.models.openai_messages import body_of
from workers.models.port import ModelChunk, ModelDone, ModelPiece, ModelRequest
from workers.pool import SessionPool
from workers.tools.tool import tool

STEPS, ROUNDS, FLYING, WAVES = 10, 30, 1_000, 5


@tool(read_only=True)
def look(n: int) -> str:
    """Looks."""
    return f"saw {n}"


class Looking:
    """A model that looks `STEPS` times, one call each, then says that it is done. `pause_s`: of each call."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s
        self.requests: list[ModelRequest] = []
        self.keep = False

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[AsyncIterator[ModelPiece]]:
        if self.keep:
            self.requests.append(request)
        return self._stream(sum(item.role == "assistant" for item in request.messages))

    async def close(self) -> None: ...

    @asynccontextmanager
    async def _stream(self, done: int) -> AsyncIterator[AsyncIterator[ModelPiece]]:
        yield self._pieces(done)

    async def _pieces(self, done: int) -> AsyncIterator[ModelPiece]:
        if self.pause_s:
            await asyncio.sleep(self.pause_s)
        usage = Usage(model="told", input_tokens=10, output_tokens=2)
        if done < STEPS:
            yield ModelDone(calls=(ToolCall(call="x", name="look", arguments={"n": done}),), usage=usage)
        else:
            yield ModelChunk(text="Done.")
            yield ModelDone(usage=usage)


async def raw(turn: AgentTurn, ctx: Context) -> str:
    """The same model calls, and nothing else."""
    said: list[HistoryItem] = [ctx.message]
    for _ in range(STEPS + 1):
        answer = await ctx.model(tuple(said))
        said += [assistant("x"), user("y")]
    return answer.text


def staged(agent: Any, model: Looking) -> Stage:
    stage = Stage(agent, model, deadline_s=600)
    stage.job.tools = (look,)
    return stage


async def _played(stage: Stage) -> None:
    stage.start()
    while not stage.results:
        await asyncio.sleep(0)
    assert stage.results[0].outcome == "completed", stage.results[0].message


async def loop_cpu() -> str:
    """Microseconds of CPU a step."""
    agents: dict[str, Any] = {"one": One(bounds=Bounds(steps=STEPS + 2)), "raw": Function(raw)}
    taken: dict[str, list[float]] = {name: [] for name in agents}
    for _ in range(ROUNDS):
        for name, agent in agents.items():
            stage = staged(agent, Looking())
            began = time.process_time()
            await _played(stage)
            taken[name].append((time.process_time() - began) * 1e6 / (STEPS + 1))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    over = [a - b for a, b in zip(taken["one"], taken["raw"], strict=True)]
    return (
        f"{medians['one']:.0f} us a step, {medians['raw']:.0f} us a bare model call: {statistics.median(over):.0f} us "
        f"over it ({min(over):.0f}-{max(over):.0f})"
    )


async def in_flight() -> list[str]:
    """A thousand turns at once, wave after wave."""
    lines, process = [], psutil.Process()
    for wave in range(WAVES):
        stages = [staged(One(bounds=Bounds(steps=STEPS + 2)), Looking(0.05)) for _ in range(FLYING)]
        began = time.process_time()
        for stage in stages:
            stage.start()
        await asyncio.sleep(0.3)
        flying = sum(not stage.results for stage in stages)
        rss = process.memory_info().rss
        while not all(stage.results for stage in stages):
            await asyncio.sleep(0.05)
        cpu = time.process_time() - began
        assert all(stage.results[0].outcome == "completed" for stage in stages)
        stages.clear()
        gc.collect()
        lines.append(
            f"wave {wave + 1}: {flying} in flight at {_mib(rss)}, then {_mib(process.memory_info().rss)}; "
            f"{cpu * 1e6 / FLYING / (STEPS + 1):.0f} us of CPU a step"
        )
    return lines


async def pool_and_build() -> str:
    """A hit, and a build."""
    pool: SessionPool[str] = SessionPool(1 << 30, 900.0, clock_s=time.monotonic)
    for n in range(10_000):
        pool.put(f"t/s{n}", "built", 4_096)
    hits = []
    for n in range(10_000):
        began = time.perf_counter_ns()
        assert pool.get(f"t/s{n}") is not None
        pool.pin(f"t/s{n}")
        pool.unpin(f"t/s{n}")
        hits.append((time.perf_counter_ns() - began) / 1_000)
    builds, made = [], one()
    for _ in range(1_000):
        began = time.perf_counter_ns()
        await Builder().build(made, INFO)
        builds.append((time.perf_counter_ns() - began) / 1_000)
    p99 = statistics.quantiles(hits, n=100)[98]
    return (
        f"pool hit p50 {statistics.median(hits):.1f} us, p99 {p99:.1f} us; build p50 {statistics.median(builds):.0f} us"
    )


def _mib(bytes_: int) -> str:
    return f"{bytes_ / 2**20:.0f} MiB"


def _as_cached(request: ModelRequest) -> bytes:
    """What a provider's cache compares: tools, system, messages, in this order."""
    body = orjson.loads(body_of(request, "m", with_usage=False))
    return orjson.dumps([body["tools"], body["messages"]])


async def prefix() -> str:
    """Bytes of each request that the session's request before it began with, from turn 3 on."""
    history: list[HistoryItem] = []
    kept: dict[str, Any] = {}
    before, held, sent = b"", 0, 0
    for number in range(1, 13):
        model = Looking()
        model.keep = True
        stage = staged(One(bounds=Bounds(steps=STEPS + 2)), model)
        stage.job.history, stage.job.kept = tuple(history), kept
        stage.job.turn = stage.job.turn._replace(turn=f"t{number}")
        await _played(stage)
        result = stage.results[0]
        for request in model.requests:
            now = _as_cached(request)
            if number >= 3:
                held += next((n for n, (a, b) in enumerate(zip(now, before, strict=False)) if a != b), len(before))
                sent += len(now)
            before = now
        history += [user("hi"), *result.history]
        kept = {**kept, **(result.kept or {})}
    return f"{held / sent:.1%} of the input was in the request before it"


async def main() -> None:
    """Print."""
    print(f"loop, {STEPS} calls a turn, {ROUNDS} rounds interleaved: {await loop_cpu()}")
    for line in await in_flight():
        print(line)
    print(await pool_and_build())
    print(f"prefix, 12 turns of {STEPS + 1} model calls, from turn 3 on: {await prefix()}")


if __name__ == "__main__":
    asyncio.run(main())
