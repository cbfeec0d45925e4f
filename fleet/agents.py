"""`fleet agents`: what workers started here would have registered, and who runs what. Asks their own registry."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fleet import addresses
from fleet.cells import cells
from fleet.exits import Exit
from fleet.registries import loaded
from fleet.store import opened
from schemas.settings import MongoSettings
from workers.registry import Registry

Counts = Mapping[tuple[str, str], int]


def agents(data: Path | None, *, sessions: bool, as_json: bool) -> Exit:
    """0: listed; 2: a registry named by FLEET_AGENTS, FLEET_AGENT, or FLEET_AGENT_ROLLOUT, cannot be used."""
    registry = loaded()
    counts = asyncio.run(_counts(addresses.mongo(data))) if sessions else None
    rows = rows_of(registry, counts)
    if as_json:
        print(json.dumps(rows))
    else:
        Console().print(_table(rows, counted=sessions))
    return Exit.OK


def rows_of(registry: Registry, counts: Counts | None = None) -> list[dict[str, Any]]:
    """A row for each version that is registered, then for each that sessions still have and that is not: they go on
    with the settled one."""
    rows: list[dict[str, Any]] = []
    left = dict(counts or {})
    for spec in registry:
        row = {
            "name": spec.name,
            "version": spec.version,
            "from": registry.place(spec.name),
            "default": spec.name == registry.default,
            "new_sessions": registry.new_sessions(spec),
        }
        if counts is not None:
            row["sessions"] = left.pop((spec.name, spec.version), 0)
        rows.append(row)
    gone = [
        {"name": name, "version": version, "from": "", "default": False, "new_sessions": "", "sessions": number}
        for (name, version), number in sorted(left.items())
    ]
    return rows + gone


def _table(rows: list[dict[str, Any]], *, counted: bool) -> Table:
    table = Table("agent", "version", "from", "new sessions", *(["sessions"] if counted else []), "", box=None)
    for row in rows:
        notes = "default" if row["default"] else "" if row["from"] else "not registered any more"
        said = [row["name"], row["version"], row["from"], row["new_sessions"]]
        table.add_row(*cells(*said, *([str(row["sessions"])] if counted else []), notes))
    return table


async def _counts(settings: MongoSettings) -> Counts:
    async with opened(settings) as store:
        return await store.directory.versions()
