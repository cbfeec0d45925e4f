"""The journal of the explored session: rows and states by number, folded by the code that ships. Holds no world."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from journal.content import has_content, stays
from journal.folding import fold_rows
from journal.memory import MemoryJournal
from journal.port import Row
from journal.rows import row_of
from journal.state import EMPTY, State
from journal.turns import terminal_of
from schemas.entries import Entry

KEY = "default/s"
FREED = -1  # a key that somebody deleted: only a planted bug does

Journal = tuple[int, ...]


class Broken(Exception):
    """A promise is broken. The text says which."""


class Store:
    """Rows and states are interned: a journal is a tuple of row numbers, what was folded is a state's number."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.entries: list[Entry] = []
        self.states: list[State] = []
        self._row_ids: dict[Row, int] = {}
        self._state_ids: dict[Any, int] = {}
        self._whole: dict[int, int] = {}
        self._folded: dict[tuple[int, Journal], int] = {}
        self._frames: dict[tuple[Journal, str], str | None] = {}
        self.empty = self.state_id(EMPTY)

    # ---- numbers

    def row_id(self, version: int, entry: Entry, nonce: str) -> int:
        """The number of `entry` as a row."""
        return self._intern_row(row_of(KEY, version, entry, nonce), entry)

    def _intern_row(self, row: Row, entry: Entry) -> int:
        known = self._row_ids.get(row)
        if known is None:
            known = self._row_ids[row] = len(self.rows)
            self.rows.append(row)
            self.entries.append(entry)
        return known

    def state_id(self, state: State) -> int:
        """The number of a state; equal ones have the same."""
        key = _state_key(state)
        known = self._state_ids.get(key)
        if known is None:
            known = self._state_ids[key] = len(self.states)
            self.states.append(state)
        return known

    # ---- what a store does

    def insert(self, journal: Journal, version: int, row: int) -> tuple[str, Journal]:
        """`applied`, `collided` or `known`; the journal then. Found there with our nonce: it was applied before."""
        if version <= len(journal):
            there = journal[version - 1]
            if there == FREED:
                raise Broken(f"version {version} was written twice: its key was freed")
            return ("applied" if self._whole.get(there, there) == row else "collided"), journal
        if version > len(journal) + 1:
            raise Broken(f"{self.entries[row].k.upper()} is version {version} and there is no version {version - 1}")
        turn = self.rows[row].turn
        if turn is not None and self.knows(journal, turn):
            return "known", journal
        return "applied", (*journal, row)

    def knows(self, journal: Journal, turn: str) -> bool:
        """Whether some entry introduces `turn`."""
        return any(row != FREED and self.rows[row].turn == turn for row in journal)

    def read_on(self, state: int, journal: Journal) -> int:
        """`state` and all that was written since. From `empty`: a first load."""
        known = self._folded.get((state, journal))
        if known is None:
            after = self.states[state].version
            rows = [self.rows[row] for row in journal[after:] if row != FREED]
            known = self.state_id(fold_rows(self.states[state], rows)) if rows else state
            self._folded[state, journal] = known
        return known

    def state(self, journal: Journal) -> State:
        """What a fresh load gives."""
        return self.states[self.read_on(self.empty, journal)]

    def unset(self, journal: Journal, below: int) -> Journal:
        """The content of all rows below version `below` goes, keys stay."""
        return (*(self._unset(row) for row in journal[: below - 1]), *journal[below - 1 :])

    def _unset(self, number: int) -> int:
        if number == FREED or not has_content(self.rows[number]):
            return number
        row = self.rows[number]
        hollow = self._intern_row(row._replace(body=row.body if stays(row) else None, frames=()), self.entries[number])
        self._whole[hollow] = self._whole.get(number, number)
        return hollow

    def closed_by(self, journal: Journal, op: str) -> int:
        """The version of the CLOSE with this op; 0: there is none."""
        return next((at for at, row in enumerate(journal, 1) if row != FREED and self.rows[row].op == op), 0)

    def clean(self, journal: Journal) -> bool:
        """Whether no content lies below the last CLOSE."""
        closes = [at for at, row in enumerate(journal) if row != FREED and self.rows[row].kind == "close"]
        return not closes or not any(row != FREED and has_content(self.rows[row]) for row in journal[: closes[-1]])

    def frame(self, journal: Journal, turn: str) -> str | None:
        """The terminal frame of `turn` as a republication reads it."""
        place = (journal, turn)
        if place not in self._frames:
            twin = MemoryJournal()
            twin.apply([self.rows[row] for row in journal if row != FREED])
            ended = _now(terminal_of(twin, KEY, turn))
            self._frames[place] = ended.frame if ended is not None else None
        return self._frames[place]


def _now(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def _state_key(state: State) -> Any:
    return repr(state._replace(history=None, ended_turns={**state.ended_turns})), repr(tuple(state.history))  # type: ignore[arg-type]
