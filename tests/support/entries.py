"""Valid sessions for property tests: each choice becomes an entry that can follow. Knows the fold, no store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from journal.fold import fold
from journal.port import Row
from journal.rows import row_of
from journal.state import EMPTY, State
from schemas.entries import (
    Claim,
    Close,
    ControlNote,
    Entry,
    Finish,
    Intent,
    Open,
    Outcome,
    Park,
    Position,
    Release,
    Settle,
    Step,
    Suspend,
)
from schemas.history import said
from schemas.turn import GivenItem, TurnInput

USER = "u"
PLACE = Position(stream="agent.turns", partition=0, offset=1, timestamp_ms=1)
LONG = "x" * 6_000  # three of them fill a chunk


class Session:
    """Grows a session entry by entry; `at_ms` rises by 10."""

    def __init__(self, s: str = "t/s", *, long: bool = False) -> None:
        self.s = s
        self.state: State = EMPTY
        self.rows: list[Row] = []
        self.now_ms = 1_000
        self._ids = 0
        self._text = LONG if long else "hi"

    def add(self, entry: Entry) -> Row:
        row = row_of(self.s, self.state.version + 1, entry, f"n{self.state.version + 1}")
        self.state = fold(self.state, row.v, entry)
        self.rows.append(row)
        return row

    def act(self, choice: int) -> Row:
        """The entry that this choice stands for, or the nearest one that is possible now."""
        possible = self._possible()
        return self.add(possible[choice % len(possible)]())

    def new(self, kind: str) -> str:
        self._ids += 1
        return f"{kind}{self._ids}"

    def at(self) -> int:
        self.now_ms += 10
        return self.now_ms

    def given(self, *, history: bool = False) -> TurnInput:
        past = (GivenItem(role="user", text="before"), GivenItem(role="assistant", text="yes")) if history else None
        return TurnInput(text=self._text, metadata={"$set": {"a.b": 1}}, history=past)

    def claim(self, *, history: bool = False) -> Claim:
        """The CLAIM of a new turn, or a take-over of the open one."""
        now, at_ms = self.state.open, self.at()
        if now is not None:
            tries = 1 if now.progress else now.tries + 1
            return self._claimed(now.turn, at_ms, attempt=now.attempt + 1, tries=tries)
        opens = None if self.state.opened else self.open()
        return self._claimed(self.new("t"), at_ms, given=self.given(history=history), opens=opens)

    def claim_parked(self) -> Claim:
        return self._claimed(self.state.parked[0].turn, self.at())

    def open(self) -> Open:
        return Open(at_ms=self.at(), user=USER, agent="echo", agent_version="1", op=self.new("o"))

    def step(self) -> Step:
        now, at_ms = self.state.open, self.at()
        assert now is not None
        return Step(
            at_ms=at_ms,
            turn=now.turn,
            attempt=now.attempt,
            step=len(now.steps),
            kind="model",
            name="m",
            digest="d",
            text="hi",
        )

    def intent(self) -> Intent:
        now = self.state.open
        assert now is not None
        step, call = len(now.steps), self.new("c")
        return Intent(
            at_ms=self.at(), turn=now.turn, attempt=now.attempt, step=step, name="m", digest="d", call=call, key="k"
        )

    def finish(self, outcome: Outcome = "completed", *, claim: Claim | None = None, rollback: bool = False) -> Finish:
        now = self.state.open
        assert now is not None
        answer = said(item=f"{now.turn}~1", turn=now.turn, role="assistant", text=self._text, at_ms=self.at())
        joined = tuple(note.turn for note in now.joined if note.input is not None)
        return Finish(
            at_ms=self.at(),
            turn=now.turn,
            attempt=now.attempt,
            outcome=outcome,
            history=(answer,),
            rollback=rollback,
            joined=joined,
            claim=claim,
            frames=tuple(_frame(turn) for turn in (now.turn, *joined)),
        )

    def close(self) -> Close:
        now = self.state.open
        ended = [item.turn for item in self.state.parked]
        if now is not None:
            ended += [now.turn, *(note.turn for note in now.joined if note.input is not None)]
        frames = tuple(map(_frame, ended))
        return Close(at_ms=self.at(), reason="delete", op=self.new("o"), ended=tuple(ended), frames=frames)

    def control(self, kind: str, turn: str, *, given: TurnInput | None = None) -> ControlNote:
        return ControlNote.model_validate(
            {
                "at_ms": self.at(),
                "op": self.new("o"),
                "kind": kind,
                "turn": turn,
                "tenant": "t",
                "user": USER,
                "input": given,
            }
        )

    def settle(self, turn: str, *, known: bool = False) -> Settle:
        frames = (_frame(turn),)
        return Settle(
            at_ms=self.at(), turn=turn, user=USER, outcome="cancelled", digest="d", known=known, frames=frames
        )

    def _claimed(
        self,
        turn: str,
        at_ms: int,
        *,
        attempt: int = 1,
        tries: int = 1,
        given: TurnInput | None = None,
        opens: Open | None = None,
    ) -> Claim:
        return Claim(
            at_ms=at_ms,
            turn=turn,
            attempt=attempt,
            tries=tries,
            worker="w",
            user=USER,
            position=PLACE,
            digest="d",
            deadline_ms=at_ms + 1_000,
            input=given,
            opens=opens,
        )

    def _possible(self) -> Sequence[Callable[[], Entry]]:
        always: list[Callable[[], Entry]] = [
            lambda: self.control("cancel", self.new("later")),
            lambda: self.settle(self.new("t")),
        ]
        if self.state.opened is None:
            return [self.claim, lambda: self.claim(history=True), self.open, self._expected, *always]
        if self.state.open is None:
            rest = [self.claim_parked] if self.state.parked else [self.claim, self.close, self._expected]
            return [*rest, *always]
        return [*self._running(), *always]

    def _expected(self) -> Claim:
        """The CLAIM of a turn whose cancel came first, if there is one."""
        claim = self.claim()
        ahead = self.state.ahead
        return claim.model_copy(update={"turn": ahead[0].turn}) if ahead else claim

    def _running(self) -> list[Callable[[], Entry]]:
        now = self.state.open
        assert now is not None
        turn, attempt = now.turn, now.attempt
        parked = self.state.parked
        found: list[Callable[[], Entry]] = [
            self.step,
            self.intent,
            self.finish,
            lambda: self.finish(rollback=True, outcome="cancelled"),
            self.claim,
            lambda: Release(at_ms=self.at(), turn=turn, attempt=attempt),
            lambda: Suspend(at_ms=self.at(), turn=turn, attempt=attempt, call="c", deadline_ms=9, frames=("{}",)),
            lambda: self.control("cancel", turn),
            lambda: self.control("approve", turn),
            lambda: self.control("steer", self.new("t"), given=self.given()),
            lambda: Park(
                at_ms=self.at(),
                turn=self.new("t"),
                user=USER,
                position=PLACE,
                digest="d",
                deadline_ms=9,
                input=self.given(),
            ),
            self.close,
        ]
        if parked:
            found.append(lambda: self.settle(parked[0].turn, known=True))
            found.append(lambda: self.finish(claim=self.claim_parked()))
        else:
            found.append(lambda: self.finish(claim=self._claimed(self.new("t"), self.at(), given=self.given())))
        return found


def _frame(turn: str) -> str:
    return f'{{"type":"completed","turn":"{turn}"}}'
