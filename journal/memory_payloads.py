"""Large bodies in memory: what the twin keeps beside its rows. Knows rows; nothing of what a body says."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice

from journal.gate import Call, Gate
from journal.port import PAYLOAD_CHARS, Row

_Key = tuple[str, int, str]


def is_large(row: Row) -> bool:
    """Whether the body of this row is kept beside it."""
    return row.body is not None and len(row.body) > PAYLOAD_CHARS


class MemoryPayloads:
    """The payloads port. `bodies`: what is stored, for tests that look."""

    def __init__(self, gate: Gate) -> None:
        self.bodies: dict[_Key, tuple[int, str]] = {}
        self._gate = gate
        self._held: set[_Key] = set()
        self._after: _Key | None = None

    def put(self, rows: Sequence[Row]) -> bool:
        """Store the bodies of those that are large; whether there were any."""
        large = [row for row in rows if is_large(row)]
        for row in large:
            self.bodies[row.s, row.v, row.nonce] = (time.time_ns() // 1_000_000, row.body or "")
        return bool(large)

    def hold(self, row: Row) -> Row:
        """The row as it is stored: from now on it names its payload."""
        if not is_large(row):
            return row
        self._held.add((row.s, row.v, row.nonce))
        return row._replace(body=None)

    def of(self, row: Row) -> str | None:
        """The body of a stored row where it names one here."""
        key = (row.s, row.v, row.nonce)
        return self.bodies.get(key, (0, None))[1] if key in self._held else None

    def remove(self, s: str, below: int) -> None:
        """Those of the versions v < below, whoever wrote them."""
        for key in [key for key in self.bodies if key[0] == s and key[1] < below]:
            del self.bodies[key]
            self._held.discard(key)

    async def sweep(self, before_ms: int, limit: int) -> int:
        if not self.bodies:
            return 0
        await self._gate(Call("payloads.sweep", "before", (before_ms, limit)))
        after = self._after
        keys = list(islice((key for key in sorted(self.bodies) if after is None or key > after), limit))
        self._after = keys[-1] if len(keys) == limit else None
        gone = [key for key in keys if key not in self._held and self.bodies[key][0] < before_ms]
        for key in gone:
            del self.bodies[key]
        return len(gone)
