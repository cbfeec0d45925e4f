"""What the frames say about where turns run: by which worker, in which attempt, from which step on. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadtest.answers import TERMINAL


@dataclass(slots=True)
class Turn:
    """`worker`, `attempt`: the latest; `steps`: the highest that was told; `moved_s`: the first frame of the latest
    attempt, `step_s`: the first step in it that is new, 0.0 where there was none."""

    worker: str = ""
    attempt: int = 0
    steps: int = -1
    moved_s: float = 0.0
    step_s: float = 0.0
    over: bool = False


class Moves:
    """Turns by id. `stale_s`: moments at which a frame of an attempt came that had been replaced; `started`: (moment,
    worker) of each attempt; `again`: steps that were told twice by different attempts."""

    def __init__(self) -> None:
        self.turns: dict[str, Turn] = {}
        self.stale_s: list[float] = []
        self.started: list[tuple[float, str]] = []
        self.again: list[str] = []

    def heard(self, frame: Mapping[str, Any], at_s: float) -> None:
        """A frame was read at this moment."""
        name, attempt = frame.get("turn"), frame.get("attempt")
        if not isinstance(name, str) or not isinstance(attempt, int):
            return
        turn = self.turns.setdefault(name, Turn())
        if turn.over:
            return
        if attempt < turn.attempt:
            self.stale_s.append(at_s)
            return
        if attempt > turn.attempt:
            turn.attempt, turn.moved_s, turn.step_s = attempt, at_s, 0.0
        self._inside(name, turn, frame, at_s)

    def running(self, worker: str) -> list[str]:
        """The turns that run now in the worker whose name holds this."""
        return [name for name, turn in self.turns.items() if not turn.over and worker in turn.worker]

    def _inside(self, name: str, turn: Turn, frame: Mapping[str, Any], at_s: float) -> None:
        kind = frame["type"]
        if kind == "started":
            turn.worker = frame["worker"]
            self.started.append((at_s, turn.worker))
        elif kind == "step":
            if frame["step"] <= turn.steps:
                self.again.append(f"step {frame['step']} of {name} in attempt {turn.attempt}")
            turn.steps = max(turn.steps, frame["step"])
            turn.step_s = turn.step_s or at_s
        elif kind in TERMINAL:
            turn.over = True
