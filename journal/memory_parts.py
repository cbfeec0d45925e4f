"""Snapshots, directory, timers, profiles and marks on dead letters in memory: what the twin has beside its journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

from journal.gate import Call, Gate, open_gate
from journal.paging import token_of, where_of
from journal.port import COMPLETED, LetterMark, Listed, Row, Saving, Timer
from schemas.profile import Profile
from schemas.snapshot import Chunk, Snapshot

SURVEY_PAGE = 1_000


class MemorySnapshots:
    """The snapshots port. Stores JSON text, as the real one does. `written`: bytes so far, for tests of cost."""

    def __init__(self, gate: Gate = open_gate) -> None:
        self.gate = gate
        self.written = 0
        self._snapshots: dict[str, tuple[int, str]] = {}
        self._chunks: dict[str, dict[tuple[int, int], str]] = {}

    async def load(self, s: str) -> Snapshot | None:
        await self.gate(Call("snapshots.load", "before", (s,)))
        return self.stored(s)

    async def chunks(self, s: str, base: int, count: int) -> list[Chunk]:
        await self.gate(Call("snapshots.chunks", "before", (s, base, count)))
        return self.first(s, base, count)

    async def save(self, saves: Sequence[Saving]) -> None:
        await self.gate(Call("snapshots.save", "before", (saves,)))
        for s, snapshot, chunks in saves:
            stored = self._snapshots.get(s)
            if stored is None or stored[0] < snapshot.version:
                self._save(s, snapshot, chunks)
        await self.gate(Call("snapshots.save", "after", (saves,)))

    def _save(self, s: str, snapshot: Snapshot, chunks: Sequence[Chunk]) -> None:
        kept = self._chunks.setdefault(s, {})
        for chunk in chunks:
            kept[chunk.base, chunk.index] = self._count(chunk.model_dump_json(exclude_defaults=True))
        self._snapshots[s] = (snapshot.version, self._count(snapshot.model_dump_json(exclude_defaults=True)))
        if snapshot.opened is None:
            kept.clear()

    async def forget(self, s: str) -> None:
        await self.gate(Call("snapshots.forget", "before", (s,)))
        self._snapshots.pop(s, None)
        self._chunks.pop(s, None)

    def stored(self, s: str) -> Snapshot | None:
        """The snapshot of `s`, past the gate."""
        stored = self._snapshots.get(s)
        return None if stored is None else Snapshot.model_validate_json(stored[1])

    def everything(self) -> list[tuple[str, Snapshot]]:
        """All snapshots, past the gate."""
        return [(s, Snapshot.model_validate_json(text)) for s, (_, text) in self._snapshots.items()]

    def first(self, s: str, base: int, count: int) -> list[Chunk]:
        """Chunks 0 … `count`-1, past the gate."""
        stored = self._chunks.get(s, {})
        found = sorted(key for key in stored if key[0] == base and key[1] < count)
        return [Chunk.model_validate_json(stored[key]) for key in found]

    def _count(self, text: str) -> str:
        self.written += len(text)
        return text


class MemorySurvey:
    """The survey port, over the twin's journal rows and snapshots."""

    def __init__(
        self,
        gate: Gate,
        rows: Mapping[tuple[str, int], Row],
        whole: Callable[[Row], Row],
        snapshots: MemorySnapshots,
    ) -> None:
        self.gate = gate
        self._rows = rows
        self._whole = whole
        self._snapshots = snapshots

    async def rows(self) -> AsyncIterator[Sequence[Row]]:
        after: tuple[str, int] = ("", 0)
        while True:
            await self.gate(Call("survey.rows", "before", (after,)))
            page = [self._rows[key] for key in sorted(key for key in self._rows if key > after)[:SURVEY_PAGE]]
            if not page:
                return
            yield [self._whole(row) for row in page]
            after = (page[-1].s, page[-1].v)

    async def snapshots(self) -> AsyncIterator[Sequence[tuple[str, Snapshot]]]:
        await self.gate(Call("survey.snapshots", "before", ()))
        if found := self._snapshots.everything():
            yield found


class MemoryDirectory:
    """The directory port."""

    def __init__(self, gate: Gate = open_gate) -> None:
        self.gate = gate
        self._sessions: dict[str, Listed] = {}

    async def put(self, listed: Sequence[Listed]) -> None:
        await self.gate(Call("directory.put", "before", (listed,)))
        for item in listed:
            known = self._sessions.get(item.s)
            if known is None or known.version <= item.version:
                self._sessions[item.s] = item

    async def of_user(
        self, tenant: str, user: str, *, limit: int, after: str | None
    ) -> tuple[list[Listed], str | None]:
        await self.gate(Call("directory.of_user", "before", (tenant, user, limit, after)))
        living = [it for it in self._living() if (it.tenant, it.user) == (tenant, user)]
        living.sort(key=lambda item: (-item.last_ms, item.s))
        if after is not None:
            last_ms, s = where_of(after)
            living = [item for item in living if (-item.last_ms, item.s) > (-last_ms, s)]
        page = living[:limit]
        return page, token_of(page[-1].last_ms, page[-1].s) if len(living) > limit else None

    async def due(self, now_ms: int, limit: int) -> list[Listed]:
        await self.gate(Call("directory.due", "before", (now_ms, limit)))
        due = [item for item in self._living() if item.expires_ms <= now_ms]
        return sorted(due, key=lambda item: item.expires_ms)[:limit]

    async def closed_before(self, moment_ms: int, limit: int) -> list[Listed]:
        await self.gate(Call("directory.closed_before", "before", (moment_ms, limit)))
        closed = [(it.closed_ms, it) for it in self._sessions.values() if it.closed_ms is not None]
        return [item for at_ms, item in sorted(closed, key=lambda pair: pair[0]) if at_ms < moment_ms][:limit]

    async def versions(self) -> dict[tuple[str, str], int]:
        await self.gate(Call("directory.versions", "before", ()))
        living = (item for item in self._sessions.values() if item.closed_ms is None)
        return dict(Counter((item.agent, item.agent_version) for item in living))

    async def remove(self, s: str) -> None:
        await self.gate(Call("directory.remove", "before", (s,)))
        self._sessions.pop(s, None)

    def _living(self) -> list[Listed]:
        return [item for item in self._sessions.values() if item.closed_ms is None]


class MemoryTimers:
    """The timers port."""

    def __init__(self, gate: Gate = open_gate) -> None:
        self.gate = gate
        self._timers: dict[tuple[str, str, str], Timer] = {}

    @property
    def armed(self) -> list[Timer]:
        """Every timer, for tests."""
        return list(self._timers.values())

    async def arm(self, timers: Sequence[Timer]) -> None:
        await self.gate(Call("timers.arm", "before", (timers,)))
        for timer in timers:
            self._timers.setdefault((timer.s, timer.turn, timer.call), timer)

    async def due(self, now_ms: int, partitions: Sequence[int], limit: int) -> list[Timer]:
        await self.gate(Call("timers.due", "before", (now_ms, partitions, limit)))
        asked = frozenset(partitions)
        due = [timer for timer in self._timers.values() if timer.due_ms <= now_ms and timer.partition in asked]
        return sorted(due, key=lambda timer: timer.due_ms)[:limit]

    async def disarm(self, timer: Timer) -> None:
        await self.gate(Call("timers.disarm", "before", (timer,)))
        key = (timer.s, timer.turn, timer.call)
        if self._timers.get(key) == timer:
            del self._timers[key]


class MemoryProfiles:
    """The profiles port. Stores JSON text, as the real one does."""

    def __init__(self, gate: Gate = open_gate) -> None:
        self.gate = gate
        self._profiles: dict[tuple[str, str], tuple[int, str]] = {}

    def put(self, profile: Profile) -> None:
        """Store it at once, whatever is there, past the gate."""
        self._profiles[profile.tenant, profile.user] = (profile.version, profile.model_dump_json())

    def copy(self) -> MemoryProfiles:
        """The same, to be changed apart."""
        new = MemoryProfiles(self.gate)
        new._profiles.update(self._profiles)
        return new

    async def load(self, tenant: str, user: str) -> Profile | None:
        await self.gate(Call("profiles.load", "before", (tenant, user)))
        stored = self._profiles.get((tenant, user))
        return Profile.model_validate_json(stored[1]) if stored is not None else None

    async def replace(self, profile: Profile) -> bool:
        await self.gate(Call("profiles.replace", "before", (profile,)))
        key = (profile.tenant, profile.user)
        held, _ = self._profiles.get(key, (0, ""))
        if held == profile.version - 1:
            self.put(profile)
        await self.gate(Call("profiles.replace", "after", (profile,)))
        return held == profile.version - 1


class MemoryLetterMarks:
    """The port of the marks on dead letters."""

    def __init__(self, gate: Gate = open_gate) -> None:
        self.gate = gate
        self._marks: dict[str, LetterMark] = {}

    async def put(self, mark: LetterMark) -> LetterMark:
        await self.gate(Call("letters.put", "before", (mark,)))
        held = self._marks.setdefault(mark.letter, mark)
        await self.gate(Call("letters.put", "after", (mark,)))
        return held

    async def complete(self, letter: str) -> None:
        await self.gate(Call("letters.complete", "before", (letter,)))
        mark = self._marks.get(letter)
        if mark is not None and mark.state in COMPLETED:
            self._marks[letter] = replace(mark, state=COMPLETED[mark.state])
        await self.gate(Call("letters.complete", "after", (letter,)))

    async def of(self, letters: Sequence[str]) -> dict[str, LetterMark]:
        await self.gate(Call("letters.of", "before", (letters,)))
        return {letter: self._marks[letter] for letter in letters if letter in self._marks}
