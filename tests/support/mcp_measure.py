"""What an MCP call costs beside the SDK's own, and what a worker holds after many turns. Run as a module, it prints
JSON: `python -m tests.support.mcp_measure warm|soak|cold …`."""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import psutil
import uvloop
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters

from schemas.errors import RetryableError
from tests.support.mcp_hosts import OURS, Hosted, hosted, hostile, ours, script, served, session

ECHO = {"text": "hello"}


async def warm(rounds: int = 9, calls: int = 200) -> dict[str, float]:
    """Seconds of a warm call over each transport, the SDK's and ours in turns: the median of the rounds' means."""
    async with AsyncExitStack() as stack:
        at = await stack.enter_async_context(served())
        made = await stack.enter_async_context(hosted(stdio=ours(prefix="s_"), http=at.config(prefix="h_")))
        line = StdioServerParameters(command=sys.executable, args=[OURS, "stdio"])
        over_stdio = await stack.enter_async_context(Client(line))
        over_http = await stack.enter_async_context(Client(f"http://127.0.0.1:{at.port}/mcp"))
        tools = await made.tools()
        lanes: dict[str, Callable[[], Awaitable[Any]]] = {
            "sdk_stdio": lambda: over_stdio.call_tool("echo", ECHO),
            "ours_stdio": lambda: tools["s_echo"].call(ECHO),
            "sdk_http": lambda: over_http.call_tool("echo", ECHO),
            "ours_http": lambda: tools["h_echo"].call(ECHO),
        }
        took: dict[str, list[float]] = {name: [] for name in lanes}
        for number in range(rounds + 1):
            for name, call in lanes.items():
                begun_s = time.perf_counter()
                for _ in range(calls):
                    await call()
                if number:  # the first round warms up
                    took[name].append((time.perf_counter() - begun_s) / calls)
        median = {name: statistics.median(of) for name, of in took.items()}
        ratios = {f"ratio_{way}": median[f"ours_{way}"] / median[f"sdk_{way}"] for way in ("stdio", "http")}
        return median | ratios


async def cold() -> dict[str, float]:
    """Seconds until three reference servers, none of them open, have said what they offer."""
    servers = {name: script(f"mcp-server-{name}", prefix=f"{name}_") for name in ("time", "git", "fetch")}
    async with hosted(None, None, **servers) as made:
        begun_s = time.perf_counter()
        tools = await made.tools()
        return {"cold_s": time.perf_counter() - begun_s, "tools": len(tools)}


async def soak(turns: int = 2_000, leases: int = 50, *, deaths: int = 20) -> dict[str, Any]:
    """Turns of `leases` sessions, each with a connection and a process of its own, of which one in a while dies: what
    the worker holds after the first tenth and at the end."""
    async with hosted(it=hostile(lease="session", most_leases=leases)) as made:
        await asyncio.gather(*(_turn(made, f"s{n}") for n in range(leases)))
        held: list[dict[str, float]] = []
        done = 0
        for number in range(1, turns + 1):
            name = f"s{number % leases}"
            done += await _turn(made, name)
            if number % (turns // deaths) == turns // deaths // 2:
                await _kill(made, f"s{number // (turns // deaths) % leases}")
            if number in {turns // 10, turns}:
                held.append(await _held(made))
        return {"turns": done, "first": held[0], "last": held[1], "openings": len(made.outcomes("mcp_openings"))}


async def _turn(made: Hosted, name: str) -> int:
    """What a turn does: it looks at the tools, and calls one."""
    tools = await made.tools(session(name))
    answer = await tools["good"].call({"n": 1})
    return 0 if answer.is_error else 1


async def _kill(made: Hosted, name: str) -> None:
    tools = await made.tools(session(name))
    try:
        await tools["die"].call({})
    except RetryableError:
        await _turn(made, name)


async def _held(made: Hosted) -> dict[str, float]:
    """Once everything that ended is gone."""
    await asyncio.sleep(0.5)
    me = psutil.Process()
    children = [child for child in me.children(recursive=True) if child.status() != "zombie"]
    return {
        "rss_mib": me.memory_info().rss / 2**20,
        "fds": me.num_fds(),
        "children": len(children),
        "leases": made.host.open_leases,
        "tasks": len(asyncio.all_tasks()),
    }


def main(arguments: list[str]) -> None:
    logging.getLogger("fleet.mcp").setLevel(logging.ERROR)
    what, *numbers = arguments
    measure: Callable[..., Any] = {"warm": warm, "cold": cold, "soak": soak}[what]
    print(json.dumps(uvloop.run(measure(*map(int, numbers)))))


if __name__ == "__main__":
    main(sys.argv[1:])
