"""An McpHost over servers given as a dict, and a probe of the loop's lag. Knows the host, no test."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from journal.memory import MemoryStore
from journal.port import Pins
from workers.agent import SessionInfo
from workers.children import Children
from workers.mcp.config import McpConfig
from workers.mcp.host import McpHost
from workers.tools.tool import Tool, ToolOutput

SCRIPTS = Path(sys.executable).parent
HOSTILE = str(Path(__file__).with_name("hostile_server.py"))
EVERYTHING = Path(__file__).parents[1] / "mcp" / "node_modules" / ".bin" / "mcp-server-everything"


def session(name: str = "s", tenant: str = "t") -> SessionInfo:
    return SessionInfo(tenant, name, "u", "one", "1")


def hostile(*modes: str, **more: Any) -> dict[str, Any]:
    """The configuration of a hostile server; `others` lets all of its tools through."""
    given = {"transport": "stdio", "command": sys.executable, "args": [HOSTILE, *modes], "era": "2025-11-25"}
    return {**given, "prefix": "", "list_ttl_s": 0, "others": {"read_only": True, "timeout_s": 5}, **more}


def script(name: str, *args: str, **more: Any) -> dict[str, Any]:
    """The configuration of a server that is installed beside Python."""
    return {"transport": "stdio", "command": str(SCRIPTS / name), "args": args, "prefix": "", "others": {}, **more}


@dataclass
class Hosted:
    host: McpHost
    told: list[tuple[str, str, str]] = field(default_factory=list)

    async def tools(self, info: SessionInfo | None = None) -> dict[str, Tool]:
        return {tool.name: tool for tool in await self.host.tools(info or session())}

    async def call(self, name: str, info: SessionInfo | None = None, **arguments: Any) -> ToolOutput:
        tools = await self.tools(info)
        return await tools[name].call(arguments)

    def outcomes(self, what: str = "mcp_calls") -> list[str]:
        return [outcome for told, _, outcome in self.told if told == what]

    async def until(self, what: str, outcome: str) -> None:
        """Until that was told."""
        while outcome not in self.outcomes(what):
            await asyncio.sleep(0.01)


@asynccontextmanager
async def hosted(
    pins: Pins | None = None, environ: dict[str, str] | None = None, **servers: Any
) -> AsyncIterator[Hosted]:
    """A host of these servers; closed at the end."""
    children = Children()
    config = McpConfig.model_validate({"servers": servers})
    host = McpHost(
        config,
        pins if pins is not None else MemoryStore().pins,
        children,
        clock_ms=lambda: 1,
        environ=environ if environ is not None else os.environ,
    )
    made = Hosted(host)
    host.tell = lambda what, server, outcome: made.told.append((what, server, outcome))
    try:
        yield made
    finally:
        await host.close()
        await children.close()


@asynccontextmanager
async def lag() -> AsyncIterator[list[float]]:
    """The longest time, in seconds, that the loop did not come round, as the list's only item."""
    worst = [0.0]

    async def watch() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            worst[0] = max(worst[0], time.monotonic() - before - 0.01)

    task = asyncio.create_task(watch())
    try:
        yield worst
    finally:
        task.cancel()


OURS = str(Path(__file__).with_name("mcp_server.py"))
PIXEL = base64.b64encode(b"not really a picture").decode()  # as that server says it


@dataclass
class Served:
    """A server of ours over HTTP, in a process of its own."""

    process: asyncio.subprocess.Process
    port: int

    def config(self, **more: Any) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}/mcp"
        given = {"transport": "http", "url": url, "prefix": "", "list_ttl_s": 0}
        return {**given, "others": {"read_only": True, "timeout_s": 10}, **more}

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def again(self) -> None:
        """End it, and start another one at the same address."""
        await self.end()
        self.process = (await started(self.port)).process


async def started(port: int = 0) -> Served:
    """Raises nothing; its output is read for the port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, OURS, "http", str(port), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    return Served(process, int(await process.stdout.readline()))


@asynccontextmanager
async def served() -> AsyncIterator[Served]:
    """A server of ours over HTTP."""
    made = await started()
    try:
        yield made
    finally:
        await made.end()


def ours(**more: Any) -> dict[str, Any]:
    """A server of ours over stdio."""
    given = {"transport": "stdio", "command": sys.executable, "args": [OURS, "stdio"], "prefix": "", "list_ttl_s": 0}
    return {**given, "others": {"read_only": True, "timeout_s": 10}, **more}
