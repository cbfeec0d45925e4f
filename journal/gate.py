"""The hook through which tests lose, delay and blur the answers of the store in memory. Knows no operation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Call:
    """One operation of the store, as a gate sees it."""

    operation: str
    phase: Literal["before", "after"]
    arguments: tuple[Any, ...]


Gate = Callable[[Call], Awaitable[None]]


async def open_gate(call: Call) -> None:
    """Lets everything through."""
