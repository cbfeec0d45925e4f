"""Checks every answer that load gets back: whole, right, once, in order. Pure: moments are passed in; knows frames,
not how they travel."""

from __future__ import annotations

import bisect
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

TERMINAL = frozenset({"completed", "failed", "cancelled"})


class Request(NamedTuple):
    """One turn to be sent. `number` counts the session's turns; `expected` is the text that must come back."""

    session: str
    turn: str
    text: str
    expected: str
    number: int
    intended_s: float


class Pending:
    """A turn whose end has not come."""

    __slots__ = ("first_s", "last", "request", "sent_s", "text")

    def __init__(self, request: Request, sent_s: float) -> None:
        self.request = request
        self.sent_s = sent_s
        self.first_s = 0.0
        self.text: list[str] | None = None
        self.last = (0, -1)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the answers of a run were. `faults` counts by kind, `examples` shows the first of each."""

    sent: int
    completed: int
    unanswered: int
    deltas: int
    characters: int
    repeated_frames: int
    faults: Mapping[str, int]
    examples: Mapping[str, str]

    @property
    def whole(self) -> bool:
        """Whether each turn that was sent was answered, and rightly."""
        return not self.faults and self.unanswered == 0 and self.completed == self.sent


class Ledger:
    """Turns in flight and what became of them. `at_s` is any clock as long as it is always the same one."""

    def __init__(self, on_end: Callable[[Request], None] | None = None) -> None:
        self.from_intended = array("d")
        self.from_sent = array("d")
        self.to_first = array("d")
        self.ends = array("d")
        self.sent = 0
        self.completed = 0
        self.deltas = 0
        self.characters = 0
        self._on_end = on_end
        self._pending: dict[str, Pending] = {}
        self._ended: dict[str, tuple[int, int, str]] = {}
        self._newest: dict[str, int] = {}
        self._repeated = 0
        self._faults: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    @property
    def outstanding(self) -> int:
        return len(self._pending)

    def send(self, request: Request, at_s: float) -> None:
        """This turn is handed to the broker or gateway now."""
        self.sent += 1
        self._pending[request.turn] = Pending(request, at_s)

    def frame(self, frame: Mapping[str, Any], at_s: float) -> None:
        """A frame was read. Frames of turns that are not ours are left alone."""
        turn, kind = frame.get("turn"), frame.get("type")
        if not isinstance(turn, str):
            return
        pending = self._pending.get(turn)
        if pending is None:
            if turn in self._ended:
                self._after_end(turn, frame)
        elif kind in TERMINAL:
            self._end(turn, pending, frame, at_s=at_s)
        elif kind in ("delta", "reset") and "run" not in frame:
            self._text(pending, frame, at_s)
        elif kind == "refused":
            self._fault("refused", f"{turn}: {frame.get('code')} {frame.get('message')}")

    def ended_between(self, from_s: float, to_s: float) -> int:
        """How many turns ended in that time."""
        return bisect.bisect_left(self.ends, to_s) - bisect.bisect_left(self.ends, from_s)

    def verdict(self) -> Verdict:
        """How it stands; call it when no more frames are awaited."""
        return Verdict(
            sent=self.sent,
            completed=self.completed,
            unanswered=len(self._pending),
            deltas=self.deltas,
            characters=self.characters,
            repeated_frames=self._repeated,
            faults=dict(self._faults),
            examples=dict(self._examples),
        )

    def _text(self, pending: Pending, frame: Mapping[str, Any], at_s: float) -> None:
        place = (frame["attempt"], frame["seq"])
        if place <= pending.last:
            self._repeated += 1
            return
        pending.last = place
        if frame["type"] == "reset":
            pending.text = [frame["text"]]
            return
        pending.first_s = pending.first_s or at_s
        if pending.text is None:
            pending.text = []
        pending.text.append(frame["text"])
        self.deltas += 1
        self.characters += len(frame["text"])

    def _end(self, turn: str, pending: Pending, frame: Mapping[str, Any], *, at_s: float) -> None:
        del self._pending[turn]
        self._ended[turn] = (frame["attempt"], frame["seq"], frame["type"])
        self._judge(pending, frame)
        request = pending.request
        self.ends.append(at_s)
        self.from_intended.append(at_s - request.intended_s)
        self.from_sent.append(at_s - pending.sent_s)
        if pending.first_s:
            self.to_first.append(pending.first_s - pending.sent_s)
        if self._on_end is not None:
            self._on_end(request)

    def _judge(self, pending: Pending, frame: Mapping[str, Any]) -> None:
        request, turn = pending.request, pending.request.turn
        if frame.get("session") != request.session:
            self._fault("wrong session", f"{turn}: {frame.get('session')} instead of {request.session}")
        if frame["type"] != "completed":
            self._fault(str(frame["type"]), f"{turn}: {frame.get('code')} {frame.get('message')}")
            return
        self.completed += 1
        text = frame["text"]
        if text != request.expected:
            self._fault("wrong text", f"{turn}: {_short(text)} instead of {_short(request.expected)}")
        if pending.text and "".join(pending.text) != text:
            self._fault("stream is not the answer", f"{turn}: {_short(''.join(pending.text))} but {_short(text)}")
        if self._newest.get(request.session, -1) > request.number:
            self._fault("out of order", f"{turn} of {request.session} after a later one")
        else:
            self._newest[request.session] = request.number

    def _after_end(self, turn: str, frame: Mapping[str, Any]) -> None:
        if frame["type"] in TERMINAL and self._ended[turn] != (frame["attempt"], frame["seq"], frame["type"]):
            self._fault("second terminal frame", f"{turn}: {frame['type']} after {self._ended[turn]}")
        else:
            self._repeated += 1

    def _fault(self, kind: str, example: str) -> None:
        self._faults[kind] += 1
        self._examples.setdefault(kind, example)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:40]}…({len(text)} characters)")
