"""What a connection that comes back gets: nothing missing silently, nothing twice. Pure; no I/O.

`full`: every frame that was missed follows. `partial`: some are gone, `text` is the answer up to (`attempt`, `seq`)
and replaces what was shown; what comes later follows. `reset`: the same, and what was shown belonged to an attempt
that is void. In all three the frames that follow are those later than (`attempt`, `seq`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from gateway.event import ORIGIN, Event, Position, event_of, now_ms
from gateway.lookup import TurnFacts
from gateway.turn_log import TurnLog
from schemas.frames import TERMINAL_TYPES, Reset

Verdict = Literal["full", "partial", "reset"]
_WAITING = frozenset({"unseen", "queued"})
_RANK: dict[Verdict, int] = {"full": 0, "partial": 1, "reset": 2}


@dataclass(frozen=True, slots=True)
class After:
    """How far a client says it had got; `turn` None: the only one that is asked about."""

    attempt: int
    seq: int
    turn: str | None = None

    @property
    def position(self) -> Position:
        return (self.attempt, self.seq)


@dataclass(frozen=True, slots=True)
class Resumed:
    """One turn's part of a `recovered` frame. `blind`: nobody here knows the text so far, so deltas are withheld."""

    verdict: Verdict
    turn: str
    state: str
    position: Position
    step: int
    text: str
    replay: Sequence[Event] = ()
    blind: bool = False

    @property
    def over(self) -> bool:
        """The turn has its outcome."""
        return self.state in TERMINAL_TYPES

    def as_item(self) -> dict[str, Any]:
        """The item of `turns` in a `recovered` frame."""
        attempt, seq = self.position
        return {
            "turn": self.turn, "state": self.state, "attempt": attempt, "seq": seq, "step": self.step,
            "text": self.text,
        }  # fmt: skip


def resume_turn(log: TurnLog | None, facts: TurnFacts, after: Position | None) -> Resumed:
    """The verdict on one turn. `log`: its frames here, if any; `facts`: the journal; `after`: what the client has."""
    start = ORIGIN if after is None else after
    ahead = after is not None and after[1] < 0  # its text is the journal's, and says more than its place
    if log is not None and not ahead and log.covers(start) and (log.heard or facts.state in _WAITING):
        text = log.text_at(start)
        return Resumed("full", facts.turn, _state(log, facts), start, log.step, text or "", log.since(start))
    terminal = facts.terminal or (log.terminal if log is not None else None)
    if terminal is not None:
        return _over(facts.turn, terminal, after)
    if facts.state in _WAITING and (log is None or not log.heard):
        known = after is None or after <= (0, 0)
        return Resumed("full" if known else "reset", facts.turn, facts.state, start if known else ORIGIN, -1, "")
    return _running(log, facts, after)


def resume_token(event: Event) -> str:
    """The SSE id of a frame within its turn."""
    return f"{event.attempt}-{event.seq}"


def parse_position(token: str) -> Position | None:
    """The position of a `<attempt>-<seq>`; None where it is none. Seq -1 is before the attempt's first frame."""
    attempt, dash, seq = token.partition("-")
    if seq == "-1":
        return (int(attempt), -1) if _is_number(attempt) else None
    fits = _is_number(attempt) and _is_number(seq)
    return (int(attempt), int(seq)) if dash and fits else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def catch_up(log: TurnLog) -> list[Event]:
    """What somebody who has nothing of this turn gets of it before its next frame."""
    if log.covers(ORIGIN):
        return log.since(ORIGIN)
    if log.terminal is not None:
        return [log.terminal]
    tenant, session, turn = log.key
    at = log.last if log.before_asked is None else log.before_asked
    text = log.text_at(at)
    if text is None:
        return []
    return [reset_of(tenant, session, Resumed("partial", turn, "running", at, log.step, text)), *log.since(at)]


def reset_of(tenant: str, session: str, item: Resumed) -> Event:
    """A `reset` of our own, at the place of the last frame: what was shown is void, this is the answer so far. Where
    the attempt's first frame is still to come, that is seq -1: before it, and not taken for it by who comes back."""
    attempt, seq = item.position
    return event_of(
        Reset(
            tenant=tenant, session=session, turn=item.turn, attempt=attempt, seq=seq, at_ms=now_ms(),
            reason="resume", step=item.step, text=item.text,
        )
    )  # fmt: skip


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on several turns."""
    return max(verdicts, key=_RANK.__getitem__, default="full")


def recovered(session: str, verdict: Verdict, items: Sequence[Resumed], ref: str | None) -> str:
    """The JSON of a `recovered` frame."""
    frame: dict[str, Any] = {"type": "recovered", "verdict": verdict, "session": session}
    frame["turns"] = [item.as_item() for item in items]
    if ref is not None:
        frame["ref"] = ref
    return orjson.dumps(frame).decode()


def _state(log: TurnLog, facts: TurnFacts) -> str:
    if log.terminal is not None:
        return log.terminal.type
    return "running" if facts.state in _WAITING and log.heard else facts.state


def _over(turn: str, terminal: Event, after: Position | None) -> Resumed:
    if after is not None and after >= terminal.position:
        return Resumed("full", turn, terminal.type, terminal.position, terminal.step, terminal.text)
    before = (terminal.attempt, terminal.seq - 1)
    stale = after is not None and after[0] not in (0, terminal.attempt)
    return Resumed(
        "reset" if stale else "partial", turn, terminal.type, before, terminal.step, terminal.text, (terminal,)
    )


def _running(log: TurnLog | None, facts: TurnFacts, after: Position | None) -> Resumed:
    live = log if log is not None and log.heard else None
    attempt = max(facts.attempt, live.last[0] if live is not None else 0)
    stale = after is not None and after[0] not in (0, attempt)
    verdict: Verdict = "reset" if stale else "partial"
    asked = facts.asked
    if asked is not None and (after is None or after < asked.position):
        before = (asked.attempt, asked.seq - 1)
        return Resumed(verdict, facts.turn, facts.state, before, facts.step, facts.text, (asked,))
    asking = _asking(live, facts, verdict, after)
    if asking is not None:
        return asking
    text = live.text_at(live.last) if live is not None else None
    if live is not None and text is not None:
        return Resumed(verdict, facts.turn, _state(live, facts), live.last, live.step, text)
    position = live.last if live is not None else (facts.attempt, -1)
    state = _state(live, facts) if live is not None else facts.state
    blind = live is not None or bool(facts.text)  # else nothing is said, and all of the attempt is still to come
    return Resumed(verdict, facts.turn, state, position, facts.step, facts.text, blind=blind)


def _asking(log: TurnLog | None, facts: TurnFacts, verdict: Verdict, after: Position | None) -> Resumed | None:
    """Up to the question of a call that runs, which the journal does not have; it follows, with what came since. None:
    there is none, or the client has it."""
    before = log.before_asked if log is not None else None
    if log is None or before is None or (after is not None and after > before):
        return None
    text = log.text_at(before)
    if text is None:
        return None
    return Resumed(verdict, facts.turn, _state(log, facts), before, log.step, text, log.since(before))
