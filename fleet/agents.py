"""`fleet agents`: what workers started here would have registered. Asks the workers' own registry."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from fleet.exits import CommandError, Exit
from schemas.settings import WorkerSettings
from workers.agent import RegistrationError
from workers.registry import Registry


def agents(*, as_json: bool) -> Exit:
    """0: listed; 2: a registry named by FLEET_AGENTS, or FLEET_AGENT, cannot be used."""
    settings = WorkerSettings()
    try:
        registry = Registry.load(settings.agents, settings.agent)
    except RegistrationError as error:
        raise CommandError(Exit.USAGE, str(error)) from None
    rows = [
        {
            "name": spec.name,
            "version": spec.version,
            "from": registry.place(spec.name),
            "default": spec.name == registry.default,
        }
        for spec in registry
    ]
    if as_json:
        print(json.dumps(rows))
    else:
        table = Table("agent", "version", "from", "", box=None, pad_edge=False)
        for row in rows:
            table.add_row(str(row["name"]), str(row["version"]), str(row["from"]), "default" if row["default"] else "")
        Console().print(table)
    return Exit.OK
