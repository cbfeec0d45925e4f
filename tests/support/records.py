"""A record as a broker gives it, for tests of what reads records."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PlainRecord:
    """Every field with a harmless default."""

    value: bytes | None = b'{"text":"hi"}'
    key: bytes | None = b"s1"
    headers: tuple[tuple[str, bytes], ...] = ()
    topic: str = "agent.turns"
    partition: int = 3
    offset: int = 17
    timestamp: int = 1_800_000_000_000
