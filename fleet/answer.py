"""What a person sees of one turn: frames in, pieces of text out. Pure: no sockets, no terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.frames import TERMINAL_TYPES

Frame = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """`text` goes on where the last piece ended; `anew`: all that was shown before is void."""

    text: str
    anew: bool = False


class Answer:
    """The answer of `turn` so far. Takes frames as they come, also twice, also of older attempts."""

    def __init__(self, turn: str) -> None:
        self.turn = turn
        self.accepted = False
        self.shown = ""
        self.end: Frame | None = None
        self.last = (-1, -1)

    def take(self, frame: Frame) -> list[Piece]:
        """The pieces that this frame adds; none for a frame that is old, unknown or another turn's."""
        if frame.get("turn") != self.turn or "attempt" not in frame or frame.get("run"):
            return []
        place = (int(frame["attempt"]), int(frame.get("seq", 0)))
        if place <= self.last:
            return []
        self.last = place
        self.accepted = True
        kind = frame["type"]
        if kind == "delta":
            self.shown += frame["text"]
            return [Piece(frame["text"])]
        if kind == "reset":
            return self._agree(frame["text"])
        if kind in TERMINAL_TYPES:
            self.end = frame
            return self._agree(frame["text"]) if kind == "completed" else []
        return []

    def recovered(self, frame: Frame) -> list[Piece]:
        """After an attach. `full`: the missing frames follow; otherwise the text so far is authoritative."""
        pieces: list[Piece] = []
        for turn in frame.get("turns", ()):
            if turn.get("turn") != self.turn:
                continue
            if frame.get("verdict") != "full":
                pieces += self._agree(turn.get("text") or "")
                self.last = (int(turn.get("attempt", 0)), int(turn.get("seq", -1)))
        return pieces

    @property
    def after(self) -> dict[str, Any]:
        """Where to go on after a lost connection."""
        attempt, seq = max(self.last, (0, 0))
        return {"turn": self.turn, "attempt": attempt, "seq": seq}

    def _agree(self, text: str) -> list[Piece]:
        """Make what is shown the same as `text`."""
        shown, self.shown = self.shown, text
        if text.startswith(shown):
            return [Piece(text[len(shown) :])] if len(text) > len(shown) else []
        return [Piece(text, anew=True)]


def printable(text: str) -> str:
    """Without control characters: what a model says must not drive the terminal."""
    return "".join(char for char in text if char in "\n\t" or (char >= " " and not "\x7f" <= char <= "\x9f"))


def ending(frame: Frame) -> str:
    """How a turn ended, in words, where it is no answer; empty for a completed one."""
    match frame["type"]:
        case "failed" | "refused" | "error":
            return f"{frame['type']}: {frame['message']} ({frame['code']})"
        case "cancelled":
            return f"cancelled by {frame['by']}"
    return ""
