"""What a server's process finds in its environment: next to nothing. Knows names of variables, no process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from workers.mcp.config import ServerConfig

MARK = "TURNFLEET_DATA"  # by it the next `fleet up` finds what this one left; a path, and no secret


def environment(config: ServerConfig, home: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """PATH, a HOME of its own, LANG, and what the operator named."""
    made = {"PATH": environ.get("PATH", "/usr/bin:/bin"), "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8"}
    if MARK in environ:
        made[MARK] = environ[MARK]
    made.update(config.variables)
    made.update({name: environ[variable] for name, variable in config.env.items() if variable in environ})
    return made
