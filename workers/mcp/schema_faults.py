"""What is wrong with a tool's JSON schema. Runs in a process of its own: it may take for ever. Knows JSON alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from jsonschema.exceptions import best_match
from jsonschema.validators import Draft202012Validator, validator_for

# Patterns are of another dialect (ECMA 262) and never run here: what only that one knows is let pass.
_ECMA_ONLY = re.compile(r"\\[pPukc/-]|\(\?<|\[\^?\]")


def faults(schemas: list[Any]) -> list[str]:
    """For each schema a sentence, or "" where it is sound."""
    return [_fault(schema) for schema in schemas]


def _fault(schema: Any) -> str:
    try:
        judge = validator_for(schema, default=Draft202012Validator)
        error = best_match(judge(judge.META_SCHEMA).iter_errors(schema))
        if error is not None:
            return f"at {'/'.join(map(str, error.absolute_path)) or 'its top'}: {error.message[:200]}"
    except Exception as error:  # noqa: BLE001 (whatever it trips over, it does not compile)
        return f"{type(error).__name__}: {str(error)[:200]}"
    return next((found for key, value in _pairs(schema) if (found := _odd(key, value, schema))), "")


def _odd(key: str, value: Any, schema: Any) -> str:
    if key in {"$ref", "$dynamicRef"} and isinstance(value, str) and not _leads(value, schema):
        return f"{key} {value[:100]!r} leads nowhere"
    patterns = list(value) if key == "patternProperties" and isinstance(value, dict) else [value]
    if key in {"pattern", "patternProperties"}:
        return next((text for text in patterns if isinstance(text, str) and _broken(text)), "") and "a broken pattern"
    return ""


def _broken(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return _ECMA_ONLY.search(pattern) is None
    return False


def _leads(ref: str, schema: Any) -> bool:
    if not ref.startswith("#"):
        return False
    if not ref.startswith("#/"):
        return True  # the top, or an anchor
    place = schema
    for step in ref[2:].split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(place, dict) and name in place:
            place = place[name]
        elif isinstance(place, list) and name.isdigit() and int(name) < len(place):
            place = place[int(name)]
        else:
            return False
    return True


def _pairs(schema: Any) -> Iterator[tuple[str, Any]]:
    stack = [schema]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield from item.items()
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
