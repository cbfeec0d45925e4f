"""Frames of turn `t` in session `s`, short to write. For the unit tests of the gateway."""

from __future__ import annotations

from typing import Any

from gateway.event import Event, event_of
from schemas.frames import Accepted, ApprovalDecided, ApprovalRequested, Completed, Delta, Reset, Started


def ids(attempt: int, seq: int, turn: str = "t", session: str = "s") -> dict[str, Any]:
    return {"session": session, "turn": turn, "attempt": attempt, "seq": seq, "at_ms": 1}


def accepted(turn: str = "t") -> Event:
    return event_of(Accepted(**ids(0, 0, turn)))


def started(seq: int = 0, attempt: int = 1, turn: str = "t") -> Event:
    return event_of(Started(**ids(attempt, seq, turn), agent="a", agent_version="1", worker="w", journal_version=1))


def delta(
    seq: int, text: str, *, attempt: int = 1, turn: str = "t", message: str = "t~1", run: str | None = None
) -> Event:
    return event_of(Delta(**ids(attempt, seq, turn), message=message, text=text, run=run))


def reset(seq: int, text: str, *, attempt: int = 1, turn: str = "t", run: str | None = None) -> Event:
    return event_of(Reset(**ids(attempt, seq, turn), reason="retry", step=-1, text=text, run=run))


def completed(seq: int, text: str, *, attempt: int = 1, turn: str = "t") -> Event:
    return event_of(Completed(**ids(attempt, seq, turn), text=text))


def asks(seq: int, call: str = "c", *, attempt: int = 1) -> Event:
    """A call that runs asks."""
    return event_of(ApprovalRequested(**ids(attempt, seq), call=call, kind="question", expires_ms=9, message="which?"))


def decides(seq: int, call: str = "c", *, attempt: int = 1) -> Event:
    return event_of(ApprovalDecided(**ids(attempt, seq), call=call, decision="deny", by="deadline"))
