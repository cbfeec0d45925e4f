"""A server's list of tools, judged: which of them can be offered, under which names, and why the others cannot.

Everything here is linear in what the server said. Compiles no schema and runs no pattern; see `schema_faults`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import JsonValue

from schemas.errors import Refusal
from schemas.limits import Limits, check_json
from workers.answer import clean
from workers.tools.reserved import RESERVED

_MOST_NAME, _MOST_DESCRIPTION, _MOST_SCHEMA = 128, 16_384, 65_536
_LIMITS = Limits(depth=48, nodes=20_000)
_ODD = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Listed:
    """A tool as its server offers it. `name`: the server's; `exposed`: what the model calls it; `digest`: SHA-256 over
    name, description and schemas; `text`: what the digest is of."""

    name: str
    exposed: str
    description: str
    schema: dict[str, JsonValue]
    digest: str
    text: str


class Left(NamedTuple):
    """A tool that is not offered."""

    name: str
    why: str


class Listing(NamedTuple):
    """`schemas`: of each tool, in order, those that have yet to be found sound."""

    tools: tuple[Listed, ...]
    left: tuple[Left, ...]


def listing(raw: Sequence[Any], *, prefix: str) -> Listing:
    """What can be offered of a raw list, in the server's order."""
    tools: list[Listed] = []
    left: list[Left] = []
    for item in raw:
        made = _listed(item, prefix)
        (tools if isinstance(made, Listed) else left).append(made)  # type: ignore[arg-type]
    names = Counter(tool.name for tool in tools)
    exposed = Counter(tool.exposed for tool in tools)
    kept = []
    for tool in tools:
        if names[tool.name] > 1:
            left.append(Left(tool.name, "the server has two tools of this name"))
        elif exposed[tool.exposed] > 1:
            left.append(Left(tool.name, f"another tool of the server would be called {tool.exposed!r} as well"))
        elif tool.exposed in RESERVED:
            left.append(
                Left(tool.name, f"the platform has a tool {tool.exposed!r} of its own: give the server a prefix")
            )
        else:
            kept.append(tool)
    return Listing(tuple(kept), tuple(left))


def _listed(item: Any, prefix: str) -> Listed | Left:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        return Left("?", "it has no name")
    name = clean(item["name"])
    if not 1 <= len(name) <= _MOST_NAME or not name.isprintable():
        return Left(name[:_MOST_NAME], f"a name has 1 to {_MOST_NAME} printable characters")
    schema, description = item.get("inputSchema"), item.get("description")
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return Left(name, "its schema is none of an object")
    if not isinstance(description, str | None) or len(description or "") > _MOST_DESCRIPTION:
        return Left(name, f"its description is no text of at most {_MOST_DESCRIPTION} characters")
    try:
        for each in (schema, item.get("outputSchema")):
            check_json(each, limits=_LIMITS, what="its schema")
        said = [name, description, schema, item.get("outputSchema")]
        text = json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (Refusal, ValueError, RecursionError) as error:
        return Left(name, str(error)[:200])
    if len(text) > _MOST_SCHEMA:
        return Left(name, f"its description and schemas have more than {_MOST_SCHEMA} bytes")
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Listed(name, exposed_name(prefix, name), clean(description or ""), schema, digest, text)


def exposed_name(prefix: str, name: str) -> str:
    """A name that every model's interface takes: characters that are none of theirs become `_`."""
    return (prefix + _ODD.sub("_", name))[:64]
