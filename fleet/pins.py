"""`fleet agents pins`: what MCP servers offer and what was accepted of it. Knows digests; opens no server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fleet import addresses
from fleet.cells import cells
from fleet.exits import CommandError, Exit
from fleet.store import opened
from journal.port import Pin
from schemas.settings import WorkerSettings
from workers.agent import RegistrationError
from workers.mcp.config import load


def list_pins(data: Path | None, *, waiting: bool, as_json: bool) -> Exit:
    """0: listed. `waiting`: those alone that are suspended."""
    pins = [pin for pin in asyncio.run(_held(data)) if not waiting or state(pin) != "accepted"]
    if as_json:
        print(json.dumps([_as_json(pin) for pin in pins]))
        return Exit.OK
    table = Table("server", "tool", "state", "offered", box=None, pad_edge=False)
    for pin in pins:
        table.add_row(*cells(pin.server, pin.tool, state(pin), pin.offered[:12]))
    Console().print(table)
    return Exit.OK


def decide(data: Path | None, server: str, tool: str, *, digest: str | None, accept: bool) -> Exit:
    """0: done; 1: there is no such tool, or it changed meanwhile. `digest` (its beginning): what was looked at."""
    return asyncio.run(_decide(data, server, tool, digest=digest, accept=accept))


async def _decide(data: Path | None, server: str, tool: str, *, digest: str | None, accept: bool) -> Exit:
    async with opened(addresses.mongo(data)) as store:
        pin = next((pin for pin in await store.pins.of([server]) if pin.tool == tool), None)
        if pin is None:
            raise CommandError(Exit.DIFFERENT, f"no worker has seen a tool {tool!r} of server {server!r}")
        if accept and digest is not None and not pin.offered.startswith(digest):
            raise CommandError(
                Exit.DIFFERENT, f"{server} {tool} is {pin.offered[:12]} now, not {digest[:12]}: look again"
            )
        if not await store.pins.accept(server, tool, pin.offered if accept else None):
            raise CommandError(Exit.DIFFERENT, f"{server} {tool} changed at this moment: look again")
    print(f"{server} {tool}: {'accepted' if accept else 'suspended'}; workers follow within seconds")
    return Exit.OK


async def _held(data: Path | None) -> list[Pin]:
    try:
        config = load(WorkerSettings().mcp)
    except RegistrationError as error:
        raise CommandError(Exit.USAGE, str(error)) from None
    async with opened(addresses.mongo(data)) as store:
        return await store.pins.of(list(config.servers))


def state(pin: Pin) -> str:
    """In one word."""
    if pin.accepted == pin.offered:
        return "accepted"
    return "new" if pin.accepted is None else "changed"


def _as_json(pin: Pin) -> dict[str, object]:
    name, description, schema, output = json.loads(pin.text)
    return {
        "server": pin.server,
        "tool": pin.tool,
        "state": state(pin),
        "accepted": pin.accepted,
        "offered": pin.offered,
        "at_ms": pin.at_ms,
        "name": name,
        "description": description,
        "schema": schema,
        "output_schema": output,
    }
