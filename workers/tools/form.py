"""Whether an answer fits what a form asks for: one flat object of plain values, as MCP's elicitations have it.

A server's patterns and formats are never evaluated, and a kind of field that is not known fits: the server says no.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import JsonValue

_Field = Mapping[str, Any]


def fits(schema: Mapping[str, JsonValue] | None, answer: JsonValue) -> bool:
    """`schema` None, or one of no object: nothing to fit. A field that need not be there may be null."""
    if schema is None or schema.get("type") != "object":
        return True
    given = {} if answer is None else answer
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(given, dict):
        return False
    must = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    fields = properties if isinstance(properties, dict) else {}
    present = {name: value for name, value in given.items() if value is not None}
    if must - present.keys():
        return False
    return all(_fits_field(fields.get(name), value) for name, value in present.items())


def _fits_field(field: object, value: JsonValue) -> bool:
    if not isinstance(field, dict):
        return True
    kind = field.get("type")
    fitting = _KINDS.get(kind) if isinstance(kind, str) else None
    return fitting is None or fitting(field, value)


def _text(field: _Field, value: JsonValue) -> bool:
    if not isinstance(value, str):
        return False
    choices = _choices(field)
    return _between(field, "minLength", "maxLength", len(value)) and (choices is None or value in choices)


def _number(field: _Field, value: JsonValue) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return _between(field, "minimum", "maximum", value)


def _whole(field: _Field, value: JsonValue) -> bool:
    return _number(field, value) and float(value).is_integer()  # type: ignore[arg-type]


def _some(field: _Field, value: JsonValue) -> bool:
    if not isinstance(value, list) or not _between(field, "minItems", "maxItems", len(value)):
        return False
    items = field.get("items")
    return all(_text(items if isinstance(items, dict) else {}, item) for item in value)


def _between(field: _Field, least: str, most: str, value: float) -> bool:
    low, high = field.get(least), field.get(most)
    return not (isinstance(low, int | float) and value < low) and not (isinstance(high, int | float) and value > high)


def _choices(field: _Field) -> list[object] | None:
    """What a text may be; None: anything."""
    if isinstance(field.get("enum"), list):
        return list(field["enum"])
    named = field.get("oneOf") or field.get("anyOf")
    if isinstance(named, list) and all(isinstance(one, dict) and "const" in one for one in named):
        return [one["const"] for one in named]
    return None


_KINDS: dict[str, Callable[[_Field, JsonValue], bool]] = {
    "string": _text,
    "number": _number,
    "integer": _whole,
    "boolean": lambda field, value: isinstance(value, bool),
    "array": _some,
}
