"""The journal's part of the proof: one session's rows, walked by version, and what became of each turn. Pure.

The walk is a fold of its own, so that a fault of the product's fold is no fault of its judge. Rows whose content a
CLOSE has unset count up to that CLOSE by their versions, and by the turns that they introduce; nothing else is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson

from fleet.chaos.fate import Body, Fate, Outcome
from fleet.chaos.finding import Found, Kind
from fleet.chaos.life import Life
from journal.port import Row


class Chain:
    """Walks the rows of one session, in order; `fates` by turn, in the order in which they were met. `tries`: as the
    workers have it set; `kept`: whether there is a snapshot to compare with."""

    def __init__(self, found: Found, *, tries: int = 3, kept: bool = True) -> None:
        self.fates: dict[str, Fate] = {}
        self.life = Life(kept=kept)
        self._found = found
        self._most_tries = tries
        self._tries = 0
        self._steers: list[str] = []
        self._aside: dict[str, tuple[int, list[str]]] = {}  # attempts that stand aside, and what was said to them
        self._progress = False
        self._version = 0
        self._opened = False
        self._owner = ""
        self._blind = False
        self._turn: str | None = None
        self._attempt = 0
        self._writer = ""

    def walk(self, rows: Sequence[Row]) -> dict[str, Fate]:
        """Every row; the fates."""
        self._numbers(rows)
        for row in rows:
            self._introduce(row)
            if row.body is None:
                self._blind = True
            if self._blind and row.turn is not None:
                self.fate(row.turn).gone = True
            if row.body is not None and (not self._blind or row.kind == "close"):
                self._read(row, row.body)
        if self._blind:
            self._found(Kind.GAP, None, f"content is unset up to version {self._version}, and no CLOSE follows")
        return self.fates

    def fate(self, turn: str) -> Fate:
        """What is known of a turn so far."""
        fate = self.fates.get(turn)
        if fate is None:
            fate = self.fates[turn] = Fate()
        return fate

    def _numbers(self, rows: Sequence[Row]) -> None:
        """1, 2, 3 …; after the sweep a log may begin late, but only where a CLOSE says what was before."""
        swept = any(row.kind == "close" for row in rows)
        last = rows[0].v - 1 if rows and swept else 0
        nonces: set[str] = set()
        for row in rows:
            if row.v == last:
                self._found(Kind.DOUBLE_VERSION, row.turn, f"version {row.v} stands twice")
            elif row.v != last + 1:
                self._found(Kind.GAP, row.turn, f"version {row.v} follows {last}")
            if row.nonce in nonces:
                self._found(Kind.DOUBLE_VERSION, row.turn, f"version {row.v}: nonce {row.nonce} stands twice")
            nonces.add(row.nonce)
            last = self._version = row.v

    def _introduce(self, row: Row) -> None:
        if row.turn is None:
            return
        fate = self.fate(row.turn)
        if fate.introduced is not None:
            self._found(Kind.DOUBLED, row.turn, f"introduced by version {fate.introduced} and again by {row.v}")
        else:
            fate.introduced = row.v

    def _read(self, row: Row, text: str) -> None:
        try:
            _READS[row.kind](self, row, orjson.loads(text))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            said = f"version {row.v}, {row.kind}: {type(error).__name__} {error}"
            self._found(Kind.UNREADABLE_ENTRY, row.turn, said)

    def _open(self, row: Row, body: Body) -> None:
        if self._opened:
            self._found(Kind.STRAY_ENTRY, None, f"version {row.v}: OPEN of a session that is open")
        self._opened, self._owner = True, body.get("user", "")
        self.life = Life(self.life.closed, kept=self.life.kept)

    def _claim(self, row: Row, body: Body) -> None:
        turn, attempt = body["turn"], body["attempt"]
        fate = self.fate(turn)
        if "opens" in body:
            self._open(row, body["opens"])
        if not self._opened:
            self._found(Kind.STRAY_ENTRY, turn, f"version {row.v}: CLAIM in a session that is not open")
        elif self._owner and (user := body.get("user", self._owner)) != self._owner:
            self._found(Kind.STRANGER, turn, f"version {row.v}: CLAIM of {user} in a session of {self._owner}")
        if turn in self._aside and self._turn is None:
            self._steers = self._resumed(row, turn, attempt)
        elif self._turn != turn:
            self._begin(row, turn, fate)
            self.life.begin(row.v, body)
            self._tries, self._steers = 1, []
        elif attempt <= self._attempt:
            said = f"version {row.v}: CLAIM of attempt {attempt} while attempt {self._attempt} is open"
            self._found(Kind.LOSER_WROTE, turn, said)
            return
        else:
            self._try_again(row, turn)
        self._turn, self._attempt, self._writer, self._progress = turn, attempt, _writer(row), False
        fate.waits = False
        if fate.began is None:
            fate.began, fate.claimed_at, fate.user = row.v, body["position"][2], body["user"]

    def _resumed(self, row: Row, turn: str, attempt: int) -> list[str]:
        """It stood aside until now; what was said to it."""
        before, steers = self._aside.pop(turn)
        if attempt <= before:
            self._found(
                Kind.LOSER_WROTE, turn, f"version {row.v}: CLAIM of attempt {attempt} after {before} stood aside"
            )
        self._tries = 1
        return steers

    def _begin(self, row: Row, turn: str, fate: Fate) -> None:
        """Another turn than the one before."""
        if self._turn is not None:
            self._found(Kind.OVERLAP, turn, f"version {row.v}: CLAIM while {self._turn} is open")
        if fate.outcomes:
            self._found(Kind.DOUBLED, turn, f"version {row.v}: CLAIM after its end by {fate.outcomes[0].version}")
        elif fate.introduced is None:
            self._found(Kind.STRAY_ENTRY, turn, f"version {row.v}: CLAIM of a turn that nothing introduced")

    def _try_again(self, row: Row, turn: str) -> None:
        """A take-over: a try more, unless something durable happened. A hand-over takes its own try back."""
        self._tries = 1 if self._progress else self._tries + 1
        if self._tries == self._most_tries + 1:
            said = f"version {row.v}: CLAIM number {self._tries} in a row without anything durable"
            self._found(Kind.TOO_MANY_TRIES, turn, said)

    def _running(self, row: Row, body: Body, *, by_owner: bool = True) -> bool:
        """Whether the entry is of the open attempt; `by_owner`: and must be written by whoever claimed that one."""
        turn, attempt = body["turn"], body["attempt"]
        what = f"version {row.v}: {row.kind.upper()} of attempt {attempt}"
        if self._turn == turn and self._attempt == attempt:
            if by_owner and _writer(row) != self._writer:
                self._found(Kind.LOSER_WROTE, turn, f"{what} by {_writer(row)}, claimed by {self._writer}")
            return True
        if self._turn == turn:
            self._found(Kind.LOSER_WROTE, turn, f"{what} while attempt {self._attempt} is open")
        else:
            self._found(Kind.STRAY_ENTRY, turn, f"{what} of a turn that is not open")
        return False

    def _inside(self, row: Row, body: Body) -> None:
        if self._running(row, body) and row.kind == "release":
            self._tries = max(self._tries - 1, 0)

    def _step(self, row: Row, body: Body) -> None:
        step, steps = (body.get("run", ""), body["step"]), self.fate(body["turn"]).steps
        if self._running(row, body) and step in steps:
            self._found(Kind.STEP_TWICE, body["turn"], f"version {row.v}: step {step[1]} {step[0]} once more")
        steps.add(step)
        self._progress = True

    def _suspend(self, row: Row, body: Body) -> None:
        if self._running(row, body):
            fate = self.fate(body["turn"])
            fate.waits = fate.released = True
            self._progress = True
            if body.get("aside"):
                self._aside[body["turn"]] = (body["attempt"], self._steers)
                self._turn, self._steers = None, []

    def _control(self, row: Row, body: Body) -> None:
        if row.turn is not None:  # it steers: joined to the open turn, its record waits for that one
            self.fate(row.turn).joined = True
        if body.get("first") is not None:
            self.fate(body["first"]).first = True
        if body["kind"] == "steer" and self._turn is not None:
            self._steers.append(f"{body['turn'] if 'input' in body else body['op']}~0")

    def _park(self, row: Row, body: Body) -> None:
        fate = self.fate(body["turn"])
        fate.waits = fate.released = True
        fate.user = body["user"]
        self.life.park(body)

    def _settle(self, row: Row, body: Body) -> None:
        turn = body["turn"]
        if turn == self._turn or turn in self._aside:
            self._found(Kind.STRAY_ENTRY, turn, f"version {row.v}: SETTLE of a turn that runs")
        self.fate(turn).user = body["user"]
        self._end(Outcome(row.v, body["outcome"], _nth(row.frames, 0)), turn)

    def _finish(self, row: Row, body: Body) -> None:
        turn, kept = body["turn"], body.get("history", ())
        stood = self._aside.pop(turn, None) if self._turn != turn else None
        if stood is not None and stood[0] == body["attempt"]:
            open_here, heard = True, stood[1]
        else:
            open_here, heard = self._running(row, body, by_owner=body["outcome"] == "completed"), self._steers
        rolled_back = body.get("rollback", False)
        outcome = Outcome(row.v, body["outcome"], _nth(row.frames, 0), None if rolled_back else kept, True)
        if open_here and not rolled_back:
            self._heard(row, turn, kept, heard)
        if open_here:
            self.life.end(row.v, turn, kept, rolled_back=rolled_back)
        if open_here or self.fate(turn).outcomes:
            self._end(outcome, turn)
        for n, joined in enumerate(body.get("joined", ()), 1):
            self._end(Outcome(row.v, "completed", _nth(row.frames, n)), joined)
        if kept:
            self._calls(row.v, turn, kept)
        if "claim" in body:
            self._claim(row, body["claim"])

    def _heard(self, row: Row, turn: str, kept: Sequence[Body], steers: Sequence[str]) -> None:
        """What was said to the running turn joins the history with it, whether the agent heard it or not."""
        there = {item["id"] for item in kept} if steers else set()
        for said in steers:
            if said not in there:
                text = f"version {row.v}: {said} was said to the turn while it ran, the history does not keep it"
                self._found(Kind.STEER_LOST, turn, text)

    def _close(self, row: Row, body: Body) -> None:
        """What waits or runs must be named; after that the session is closed."""
        for n, turn in enumerate(body.get("ended", ())):
            self._end(Outcome(row.v, "cancelled", _nth(row.frames, n)), turn)
        for turn, fate in self.fates.items():
            if not fate.over:
                self._found(Kind.NO_TERMINAL, turn, f"version {row.v}: CLOSE leaves it without an outcome")
                fate.gone = True
        self._opened, self._turn, self._blind = False, None, False
        self._aside.clear()
        self.life = Life(row.v, kept=self.life.kept)

    def _end(self, outcome: Outcome, turn: str) -> None:
        fate = self.fate(turn)
        fate.outcomes.append(outcome)
        fate.waits = False
        if len(fate.outcomes) == 2:
            first = fate.outcomes[0]
            text = f"{first.name} by version {first.version} and {outcome.name} by {outcome.version}"
            self._found(Kind.TWO_TERMINALS, turn, text)
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
                    self._found(Kind.ORPHAN_TOOL_CALL, turn, f"version {v}: a result of {call}, which nobody called")
        for call in asked:
            self._found(Kind.ORPHAN_TOOL_CALL, turn, f"version {v}: tool call {call} has no result")


_READS: dict[str, Callable[[Chain, Row, Body], None]] = {
    "open": Chain._open,
    "claim": Chain._claim,
    "step": Chain._step,
    "intent": Chain._inside,
    "suspend": Chain._suspend,
    "release": Chain._inside,
    "control": Chain._control,
    "park": Chain._park,
    "settle": Chain._settle,
    "finish": Chain._finish,
    "close": Chain._close,
}


def _writer(row: Row) -> str:
    """The incarnation of the worker that wrote an entry."""
    return row.nonce.partition("-")[0]


def _nth(frames: Sequence[str], n: int) -> str | None:
    return frames[n] if n < len(frames) else None
