"""`fleet agents check`: whether workers started here could use their agents and their MCP servers. Starts no worker."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fleet import addresses
from fleet.cells import cells
from fleet.exits import CommandError, Exit
from fleet.store import opened
from schemas.settings import WorkerSettings
from workers.agent import RegistrationError
from workers.children import Children
from workers.mcp.config import McpConfig, load
from workers.mcp.host import McpHost
from workers.registry import Registry


def check(data: Path | None, *, connect: bool, as_json: bool) -> Exit:
    """0: fine; 1: `connect`, and a server is away; 2: a registry, FLEET_AGENT or FLEET_MCP cannot be used."""
    settings = WorkerSettings()
    try:
        Registry.load(settings.agents, settings.agent, rollout=settings.agent_rollout)
        config = load(settings.mcp)
    except RegistrationError as error:
        raise CommandError(Exit.USAGE, str(error)) from None
    servers = asyncio.run(_looked(data, config)) if connect else _named(config)
    _show(servers, as_json=as_json)
    return Exit.DIFFERENT if any(server.get("away") for server in servers) else Exit.OK


def _named(config: McpConfig) -> list[dict[str, Any]]:
    return [
        {"server": name, "transport": of.transport, "lease": of.lease, "tools": [{"tool": tool} for tool in of.tools]}
        for name, of in config.servers.items()
    ]


async def _looked(data: Path | None, config: McpConfig) -> list[dict[str, Any]]:
    """Every server opened once; what is seen for the first time is pinned as a worker would."""
    children = Children()
    async with opened(addresses.mongo(data)) as store:
        host = McpHost(config, store.pins, children, clock_ms=lambda: time.time_ns() // 1_000_000)
        try:
            await host.look()
            found = _named(config)
            for row in found:
                server = host.servers[row["server"]]
                row["away"] = server.why
                row["tools"] = [
                    {"tool": tool.name, "called": tool.exposed, "pin": "accepted" if accepted else "suspended"}
                    for tool in server.listed
                    for accepted in (host.accepts(server.name, tool.name),)
                ]
                row["left"] = [left._asdict() for left in server.left]
        finally:
            await host.close()
            await children.close()
    return found


def _show(servers: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(servers))
        return
    table = Table("server", "tool", "called", "pin", box=None, pad_edge=False)
    for server in servers:
        if server.get("away"):
            table.add_row(*cells(server["server"], f"away: {server['away']}"))
        for tool in server["tools"]:
            table.add_row(*cells(server["server"], tool["tool"], tool.get("called", ""), tool.get("pin", "")))
        for left in server.get("left", ()):
            table.add_row(*cells(server["server"], left["name"], "", f"left out: {left['why']}"))
    Console().print(table if servers else "no MCP servers: FLEET_MCP names no file, or one without servers")
