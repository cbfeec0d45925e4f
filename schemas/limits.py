"""Size, depth and count limits of what comes from outside, enforced while decoding. Knows no model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import JsonValue

from schemas.codes import Code
from schemas.errors import Refusal

_INT64 = 2**63


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one turn's content, in bytes of UTF-8 where not said otherwise."""

    record_bytes: int = 1_000_000
    content_bytes: int = 262_144
    metadata_bytes: int = 16_384
    depth: int = 32
    nodes: int = 10_000
    parts: int = 256
    history_items: int = 1_000


DEFAULT_LIMITS = Limits()


def check_json(value: JsonValue, *, limits: Limits, what: str) -> None:
    """Refuse numbers that other readers cannot hold, nesting and counts over the limits. O(nodes), no recursion."""
    stack: list[tuple[JsonValue, int]] = [(value, 1)]
    nodes = 0
    while stack:
        item, depth = stack.pop()
        nodes += 1
        if nodes > limits.nodes or depth > limits.depth:
            raise Refusal(Code.BAD_REQUEST, f"{what}: more than {limits.nodes} values or {limits.depth} levels")
        if isinstance(item, dict):
            stack.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list):
            stack.extend((child, depth + 1) for child in item)
        else:
            _check_number(item, what)


def _check_number(item: JsonValue, what: str) -> None:
    if isinstance(item, float) and not math.isfinite(item):
        raise Refusal(Code.BAD_REQUEST, f"{what}: NaN and infinite numbers are no JSON")
    if isinstance(item, int) and not -_INT64 <= item < _INT64:
        raise Refusal(Code.BAD_REQUEST, f"{what}: an integer does not fit 64 bits; send it as a string")
