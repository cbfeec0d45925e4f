"""The journal's part of the proof: one session's rows, walked by version, and what became of each turn. Pure.

The walk is a fold of its own, so that a fault of the product's fold is no fault of its judge. Rows whose content a
CLOSE has unset are trusted up to that CLOSE: only their versions and the turns that they introduce are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from fleet.chaos.finding import Kind
from journal.port import Row

Report = Callable[[Kind, str | None, str], None]
Body = Mapping[str, Any]


class Outcome:
    """How a turn ended, by which version. `frame`: the stored terminal frame; `kept`: messages that joined the history,
    None where the turn never ran."""

    __slots__ = ("frame", "kept", "name", "version")

    def __init__(self, version: int, name: str, frame: str | None, kept: Sequence[Body] | None) -> None:
        self.version = version
        self.name = name
        self.frame = frame
        self.kept = kept


class Fate:
    """What the journal says of a turn. `began`: version of its first CLAIM; `waits`: suspended or parked; `gone`: its
    content is unset; `queued`: its CLAIM is of a record of `agent.turns` that waited in line."""

    __slots__ = ("began", "gone", "introduced", "outcomes", "queued", "waits")

    def __init__(self) -> None:
        self.introduced: int | None = None
        self.began: int | None = None
        self.waits = False
        self.queued = True
        self.gone = False
        self.outcomes: list[Outcome] = []

    @property
    def over(self) -> bool:
        return bool(self.outcomes) or self.gone


class Chain:
    """Walks the rows of one session, in order; `fates` by turn."""

    def __init__(self, report: Report) -> None:
        self.fates: dict[str, Fate] = {}
        self._report = report
        self._version = 0
        self._opened = False
        self._blind = False
        self._turn: str | None = None
        self._attempt = 0
        self._steps = 0
        self._reads: dict[str, Callable[[int, Row, Body], None]] = {
            "open": self._open,
            "claim": self._claim_row,
            "step": self._step,
            "intent": self._inside,
            "suspend": self._suspend,
            "release": self._inside,
            "control": self._control,
            "park": self._park,
            "settle": self._settle,
            "finish": self._finish,
            "close": self._close,
        }

    def walk(self, rows: Sequence[Row]) -> dict[str, Fate]:
        """Every row; the fates."""
        for row in rows:
            self._number(row)
            self._introduce(row)
            if row.body is None:
                self._blind = True
                if row.turn is not None:
                    self._fate(row.turn).gone = True
            elif not self._blind or row.kind == "close":
                self._reads[row.kind](row.v, row, orjson.loads(row.body))
        return self.fates

    def _fate(self, turn: str) -> Fate:
        fate = self.fates.get(turn)
        if fate is None:
            fate = self.fates[turn] = Fate()
        return fate

    def _number(self, row: Row) -> None:
        last = self._version
        if row.v == last:
            self._report(Kind.DOUBLE_VERSION, row.turn, f"version {row.v} stands twice")
        elif row.v != last + 1 and not (last == 0 and (row.body is None or row.kind == "close")):
            self._report(Kind.GAP, row.turn, f"version {row.v} follows {last}")  # after the sweep a log may begin late
        self._version = row.v

    def _introduce(self, row: Row) -> None:
        if row.turn is None:
            return
        fate = self._fate(row.turn)
        if fate.introduced is not None:
            self._report(Kind.DOUBLED, row.turn, f"introduced by version {fate.introduced} and again by {row.v}")
        else:
            fate.introduced = row.v

    def _open(self, v: int, row: Row, body: Body) -> None:
        self._opened = True

    def _claim_row(self, v: int, row: Row, body: Body) -> None:
        self._claim(v, body)

    def _claim(self, v: int, body: Body) -> None:
        turn, attempt = body["turn"], body["attempt"]
        fate = self._fate(turn)
        self._opened = self._opened or "opens" in body
        if not self._opened:
            self._report(Kind.STRAY_ENTRY, turn, f"version {v}: CLAIM in a session that is not open")
        if self._turn == turn:
            if attempt <= self._attempt:
                self._report(Kind.LOSER_WROTE, turn, f"version {v}: CLAIM of attempt {attempt} after {self._attempt}")
                return
        else:
            self._begin(v, turn, fate)
        self._turn, self._attempt = turn, attempt
        fate.waits = False
        if fate.began is None:
            fate.began = v

    def _begin(self, v: int, turn: str, fate: Fate) -> None:
        """Another turn than the one before."""
        if self._turn is not None:
            self._report(Kind.OVERLAP, turn, f"version {v}: CLAIM while {self._turn} is open")
        if fate.outcomes:
            self._report(Kind.DOUBLED, turn, f"version {v}: CLAIM after its end by {fate.outcomes[0].version}")
        elif fate.introduced is None:
            self._report(Kind.STRAY_ENTRY, turn, f"version {v}: CLAIM of a turn that nothing introduced")
        self._steps = 0

    def _running(self, v: int, row: Row, body: Body) -> bool:
        """Whether the entry is of the open attempt."""
        turn, attempt = body["turn"], body["attempt"]
        if self._turn == turn and self._attempt == attempt:
            return True
        what = f"version {v}: {row.kind.upper()} of attempt {attempt}"
        if self._turn == turn:
            self._report(Kind.LOSER_WROTE, turn, f"{what} while attempt {self._attempt} is open")
        elif row.kind != "finish" or not self._fate(turn).outcomes:
            self._report(Kind.STRAY_ENTRY, turn, f"{what} of a turn that is not open")
        return False

    def _inside(self, v: int, row: Row, body: Body) -> None:
        self._running(v, row, body)

    def _step(self, v: int, row: Row, body: Body) -> None:
        if self._running(v, row, body):
            step = body["step"]
            if step < self._steps:
                self._report(Kind.STEP_ORDER, body["turn"], f"version {v}: step {step} after step {self._steps - 1}")
            elif step > self._steps:
                self._report(Kind.STEP_ORDER, body["turn"], f"version {v}: step {step}, step {self._steps} is missing")
            self._steps = step + 1

    def _suspend(self, v: int, row: Row, body: Body) -> None:
        if self._running(v, row, body):
            self._fate(body["turn"]).waits = True

    def _control(self, v: int, row: Row, body: Body) -> None:
        if row.turn is not None:  # it steers: joined to the open turn, its record waits for that one
            self._fate(row.turn).queued = False

    def _park(self, v: int, row: Row, body: Body) -> None:
        self._fate(body["turn"]).waits = True

    def _settle(self, v: int, row: Row, body: Body) -> None:
        self._end(Outcome(v, body["outcome"], _nth(row.frames, 0), None), body["turn"])

    def _finish(self, v: int, row: Row, body: Body) -> None:
        turn = body["turn"]
        kept: Sequence[Body] = body.get("history", ())
        open_here = self._running(v, row, body)
        if open_here or self._fate(turn).outcomes:
            rolled_back = body.get("rollback", False)
            self._end(Outcome(v, body["outcome"], _nth(row.frames, 0), None if rolled_back else kept), turn)
        for n, joined in enumerate(body.get("joined", ()), 1):
            self._end(Outcome(v, "completed", _nth(row.frames, n), None), joined)
        if open_here:
            self._turn = None
        if kept:
            self._calls(v, turn, kept)
        claim = body.get("claim")
        if claim is not None:
            self._claim(v, claim)

    def _close(self, v: int, row: Row, body: Body) -> None:
        """What waits or runs must be named; after that the session is closed."""
        ended = body.get("ended", ())
        for n, turn in enumerate(ended):
            self._end(Outcome(v, "cancelled", _nth(row.frames, n), None), turn)
        for turn, fate in self.fates.items():
            if not fate.over:
                self._report(Kind.NO_TERMINAL, turn, f"version {v}: CLOSE leaves it without an outcome")
                fate.gone = True
        self._opened, self._turn, self._blind = False, None, False

    def _end(self, outcome: Outcome, turn: str) -> None:
        fate = self._fate(turn)
        fate.outcomes.append(outcome)
        fate.waits = False
        if len(fate.outcomes) == 2:
            first = fate.outcomes[0]
            text = f"{first.name} by version {first.version} and {outcome.name} by {outcome.version}"
            self._report(Kind.TWO_TERMINALS, turn, text)
        if self._turn == turn:
            self._turn = None

    def _calls(self, v: int, turn: str, kept: Sequence[Body]) -> None:
        """Every tool call of what joined the history has its result after it, and every result its call."""
        asked: list[str] = []
        for item in kept:
            asked.extend(call["call"] for call in item.get("calls", ()))
            if item["role"] == "tool":
                call = item.get("call")
                if call in asked:
                    asked.remove(call)
                else:
                    self._report(Kind.ORPHAN_TOOL_CALL, turn, f"version {v}: a result of {call}, which was not called")
        for call in asked:
            self._report(Kind.ORPHAN_TOOL_CALL, turn, f"version {v}: tool call {call} has no result")


def _nth(frames: Sequence[str], n: int) -> str | None:
    return frames[n] if n < len(frames) else None
