"""What a person sees of one turn: frames in, pieces of text, lines and questions out. Pure: no sockets, no terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet.asking import Asked, seen, spelled
from schemas.frames import TERMINAL_TYPES

Frame = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """`text` goes on where the last piece ended; `anew`: all that was shown before is void."""

    text: str
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """What stands beside the answer and is no part of it: a call, a result, the plan. May have several lines."""

    text: str


@dataclass(frozen=True, slots=True)
class Decided:
    """The decision on `call` was taken, here or elsewhere."""

    call: str
    text: str


Sight = Piece | Line | Asked | Decided


class Answer:
    """The answer of `turn` so far. Takes frames as they come, also twice, also of older attempts."""

    def __init__(self, turn: str) -> None:
        self.turn = turn
        self.accepted = False
        self.shown = ""
        self.end: Frame | None = None
        self.last = (-1, -1)
        self.asked: Asked | None = None
        self._plan: object = None

    def take(self, frame: Frame) -> list[Sight]:
        """What this frame adds; nothing for a frame that is old, unknown or another turn's."""
        if frame.get("turn") != self.turn or "attempt" not in frame:
            return []
        place = (int(frame["attempt"]), int(frame.get("seq", 0)))
        if place <= self.last:
            return []
        gone = self._no_longer() if place[0] > self.last[0] else []  # what an older attempt asks is nobody's question
        self.last = place
        self.accepted = True
        return [*gone, *self._taken(frame)]

    def _taken(self, frame: Frame) -> list[Sight]:
        kind = frame["type"]
        if kind in {"approval_requested", "approval_decided"}:
            return self._decision(frame)
        if kind in BESIDE:
            return self._beside(frame)
        if frame.get("run"):
            return []
        if kind == "delta":
            self.shown += frame["text"]
            return [Piece(frame["text"])]
        if kind == "reset":
            return self._agree(frame["text"])
        if kind in TERMINAL_TYPES:
            self.end = frame
            return [*self._no_longer(), *(self._agree(told(frame)) if kind == "completed" else ())]
        return []

    def recovered(self, frame: Frame) -> list[Sight]:
        """After an attach. `full`: the missing frames follow; otherwise the text so far is authoritative."""
        pieces: list[Sight] = []
        for turn in frame.get("turns", ()):
            if turn.get("turn") != self.turn:
                continue
            if frame.get("verdict") != "full":
                if turn.get("state") != "suspended":
                    pieces += self._no_longer()
                pieces += self._agree(turn.get("text") or "")
                self.last = (int(turn.get("attempt", 0)), int(turn.get("seq", -1)))
        return pieces

    @property
    def after(self) -> dict[str, Any]:
        """Where to go on after a lost connection."""
        attempt, seq = max(self.last, (0, 0))
        return {"turn": self.turn, "attempt": attempt, "seq": seq}

    def _decision(self, frame: Frame) -> list[Sight]:
        if frame["type"] == "approval_requested":
            if self.asked is not None and self.asked.call == frame["call"]:
                return []  # sent again after an attach
            self.asked = Asked(frame)
            return [self.asked]
        if self.asked is not None and self.asked.call == frame["call"]:
            if frame["by"] == "withdrawn":
                return self._no_longer()
            self.asked = None
        what = "allowed" if frame["decision"] == "allow" else "denied"
        return [Decided(frame["call"], f"{what} by {seen(frame['by'])}")]

    def _no_longer(self) -> list[Sight]:
        asked, self.asked = self.asked, None
        return [] if asked is None else [Decided(asked.call, "no longer open")]

    def _beside(self, frame: Frame) -> list[Sight]:
        if frame["type"] == "state" and frame["name"] == "plan" and not frame.get("run"):
            if frame["value"] == self._plan:
                return []
            self._plan = frame["value"]
        text = beside(frame)
        return [Line(text)] if text else []

    def _agree(self, text: str) -> list[Sight]:
        """Make what is shown the same as `text`."""
        shown, self.shown = self.shown, text
        if text.startswith(shown):
            return [Piece(text[len(shown) :])] if len(text) > len(shown) else []
        return [Piece(text, anew=True)]


BESIDE = frozenset({"tool_call", "tool_result", "state"})
_MARKS = {"done": "x", "in_progress": "~"}
_WIDTH = 100


def beside(frame: Frame) -> str:
    """A call, a result, the plan or a notice in words; a sub-agent's are indented. Empty: nothing to show."""
    indent = "    " if frame.get("run") else "  "
    match frame["type"]:
        case "tool_call":
            given = frame["arguments"] if "arguments" in frame else frame.get("arguments_text", "")
            return indent + _short(f"→ {seen(frame['name'])} {spelled(given)}")
        case "tool_result":
            how = "error" if frame.get("is_error") else "done"
            said = " ".join(str(part["text"]) for part in frame["content"] if part.get("type") == "text")
            return indent + _short(f"← {seen(frame['name'])} {how}: {' '.join(seen(said).split())}")
    value = frame["value"]
    if frame["name"] == "plan" and isinstance(value, list):
        return "\n".join(f"{indent}{_todo(item)}" for item in value)
    if frame["name"] == "notice":
        return indent + _short(seen(value) if isinstance(value, str) else spelled(value))
    return ""


def _todo(item: object) -> str:
    fields = item if isinstance(item, dict) else {"text": item}
    return f"[{_MARKS.get(str(fields.get('status')), ' ')}] {_short(' '.join(seen(str(fields.get('text'))).split()))}"


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def told(end: Frame) -> str:
    """What a terminal frame answers: its text; where that is empty its data, if it has any."""
    text = str(end.get("text") or "")
    return text or (spelled(end["data"]) if end.get("data") is not None else "")


def printable(text: str) -> str:
    """Without control characters: what a model says must not drive the terminal."""
    return "".join(char for char in text if char in "\n\t" or (char >= " " and not "\x7f" <= char <= "\x9f"))


def ending(frame: Frame) -> str:
    """How a turn ended, in words, where it is no answer; empty for a completed one."""
    match frame["type"]:
        case "failed" | "refused" | "error":
            return f"{frame['type']}: {seen(frame['message'])} ({seen(frame['code'])})"
        case "cancelled":
            return f"cancelled by {seen(frame['by'])}"
    return ""
