"""The whole store in memory, for tests and simulation: same answers as MongoDB, no network. Holds nothing on disk.

Deterministic: nothing here waits but the gate, an async hook before and after each operation. A gate that raises
StoreUnavailable before an operation loses it, after it makes it ambiguous; one that keeps a call's arguments and calls
`MemoryJournal.apply` later lets a write arrive late.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from itertools import chain, islice

from journal.content import has_content, stays
from journal.gate import Call, Gate, open_gate
from journal.memory_budgets import MemoryBudgets
from journal.memory_parts import (
    MemoryDirectory,
    MemoryLetterMarks,
    MemoryProfiles,
    MemorySnapshots,
    MemorySurvey,
    MemoryTimers,
)
from journal.memory_payloads import MemoryPayloads
from journal.memory_pins import MemoryPins
from journal.port import (
    Budgets,
    Directory,
    Found,
    Journal,
    LetterMarks,
    Payloads,
    Pins,
    Profiles,
    Row,
    Snapshots,
    StoreUnavailable,
    Survey,
    Timers,
    Verdict,
    Wanted,
)


class MemoryJournal:
    """The journal port. `rows`, `turns`: what is stored, for tests that look; large bodies lie in `payloads`."""

    def __init__(self, gate: Gate = open_gate) -> None:
        self.gate = gate
        self.payloads = MemoryPayloads(gate)
        self.rows: dict[tuple[str, int], Row] = {}
        self.turns: dict[tuple[str, str], int] = {}
        self._versions: dict[str, list[int]] = {}

    def apply(self, rows: Sequence[Row]) -> list[Verdict]:
        """Insert at once, past the gate."""
        self.payloads.put(rows)
        return [self._apply(row) for row in rows]

    async def insert(self, rows: Sequence[Row]) -> list[Verdict]:
        await self.gate(Call("insert", "before", (rows,)))
        if self.payloads.put(rows):
            await self.gate(Call("payloads.put", "after", (rows,)))
        verdicts = self.apply(rows)
        await self.gate(Call("insert", "after", (rows,)))
        return verdicts

    async def read(self, s: str, after: int, limit: int = 1_000) -> list[Row]:
        await self.gate(Call("read", "before", (s, after, limit)))
        found = [self.whole(self.rows[s, v]) for v in self._between(s, after, None)[:limit]]
        await self.gate(Call("read", "after", (s, after, limit)))
        return found

    async def row(self, s: str, v: int) -> Row | None:
        await self.gate(Call("row", "before", (s, v)))
        stored = self.rows.get((s, v))
        found = None if stored is None else self.whole(stored)
        await self.gate(Call("row", "after", (s, v)))
        return found

    async def exists(self, s: str, v: int) -> bool:
        await self.gate(Call("exists", "before", (s, v)))
        found = (s, v) in self.rows
        await self.gate(Call("exists", "after", (s, v)))
        return found

    async def introduced(self, s: str, turn: str) -> int | None:
        await self.gate(Call("introduced", "before", (s, turn)))
        found = self.turns.get((s, turn))
        await self.gate(Call("introduced", "after", (s, turn)))
        return found

    async def unset(self, s: str, below: int) -> None:
        await self.gate(Call("unset", "before", (s, below)))
        for v in self._between(s, 0, below):
            row = self.rows[s, v]
            if has_content(row):
                self.rows[s, v] = row._replace(body=row.body if stays(row) else None, frames=())
        self.payloads.remove(s, below)
        await self.gate(Call("unset", "after", (s, below)))

    async def drop(self, s: str, below: int, *, until_ms: int, limit: int) -> int:
        await self.gate(Call("drop", "before", (s, below, until_ms, limit)))
        gone = [v for v in self._between(s, 0, below) if self.rows[s, v].at_ms <= until_ms][:limit]
        for v in gone:
            turn = self.rows.pop((s, v)).turn
            if turn is not None:
                self.turns.pop((s, turn), None)
            self._versions[s].remove(v)
        if gone:
            self.payloads.remove(s, gone[-1] + 1)
        await self.gate(Call("drop", "after", (s, below, until_ms, limit)))
        return len(gone)

    def first(self, after: Mapping[str, int], limit: int) -> list[Row]:
        """At most `limit` rows of these sessions above these versions, in order of (s, v), past the gate."""
        found = ([self.whole(self.rows[s, v]) for v in self._between(s, after[s], None)[:limit]] for s in sorted(after))
        return list(islice(chain.from_iterable(found), limit))

    def _apply(self, row: Row) -> Verdict:
        if (row.s, row.v) in self.rows:
            return Verdict.COLLIDED
        if row.turn is not None and (row.s, row.turn) in self.turns:
            return Verdict.KNOWN
        self.rows[row.s, row.v] = self.payloads.hold(row)
        if row.turn is not None:
            self.turns[row.s, row.turn] = row.v
        bisect.insort(self._versions.setdefault(row.s, []), row.v)
        return Verdict.APPLIED

    def whole(self, row: Row) -> Row:
        body = self.payloads.of(row)
        return row if body is None else row._replace(body=body)

    def _between(self, s: str, after: int, below: int | None) -> list[int]:
        versions = self._versions.get(s, [])
        start = bisect.bisect_right(versions, after)
        return versions[start:] if below is None else versions[start : bisect.bisect_left(versions, below)]


class MemoryStore:
    """Everything of the store port in this process. `gate` sees the operations of all parts and of the whole."""

    def __init__(self, gate: Gate = open_gate) -> None:
        self._gate = gate
        self._recorded: dict[str, str] = {}
        self.log = MemoryJournal(gate)
        self.journal: Journal = self.log
        self.payloads: Payloads = self.log.payloads
        self._snapshots = MemorySnapshots(gate)
        self.snapshots: Snapshots = self._snapshots
        self.directory: Directory = MemoryDirectory(gate)
        self.timers: Timers = MemoryTimers(gate)
        self.letters: LetterMarks = MemoryLetterMarks(gate)
        self.profiles: Profiles = MemoryProfiles(gate)
        self.pins: Pins = MemoryPins(gate)
        self.budgets: Budgets = MemoryBudgets(gate)
        self.survey: Survey = self.survey_of(self.log)

    def survey_of(self, journal: MemoryJournal) -> MemorySurvey:
        """A survey of this journal and of the snapshots that are here."""
        return MemorySurvey(self._gate, journal.rows, journal.whole, self._snapshots)

    async def start(self) -> None:
        await self._gate(Call("start", "before", ()))

    async def ping(self) -> bool:
        try:
            await self._gate(Call("ping", "before", ()))
        except StoreUnavailable:
            return False
        return True

    async def fetch(self, wanted: Wanted) -> Found:
        await self._gate(Call("fetch", "before", (wanted,)))
        rows = self.log.first(wanted.rows, wanted.limit)
        snapshots = {s: it for s in wanted.snapshots if (it := self._snapshots.stored(s)) is not None}
        chunks = {s: of for s, (base, n) in wanted.chunks.items() if (of := self._snapshots.first(s, base, n))}
        await self._gate(Call("fetch", "after", (wanted,)))
        return Found(rows, snapshots, chunks)

    async def recorded(self, name: str, value: str) -> str:
        await self._gate(Call("recorded", "before", (name, value)))
        return self._recorded.setdefault(name, value)

    async def record(self, name: str, value: str) -> None:
        """See the port."""
        await self._gate(Call("record", "before", (name, value)))
        self._recorded[name] = value

    async def stop(self) -> None:
        await self._gate(Call("stop", "before", ()))
