"""A line of work beside others of its turn: its own steps, its own text, frames that name it. Knows no agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from schemas.frames import Frame
from schemas.parts import Part
from workers.answer import Answer
from workers.emitter import Emitter
from workers.steps import Steps

if TYPE_CHECKING:
    from workers.progress import Progress


class Branch(Steps):
    """`whole`: its turn; `run`: its path. It holds what the journal has of it from the start, and is of use once it was
    begun."""

    __slots__ = ("_emitter", "_names", "_quiet", "_up", "_whole", "run")

    def __init__(self, whole: Progress, run: str) -> None:
        super().__init__()
        self.run = run
        self._whole = whole
        self._up: Steps | None = None
        self._emitter: Emitter | None = None
        self._names: Mapping[str, str] = {}
        self._quiet = False

    def begin(self, up: Steps, *, call: str | None, quiet: bool) -> None:
        """`up`: the line beside which it is; `call`: what asked for it; `quiet`: its frames are those of `up`."""
        self._up = up
        self._quiet = quiet
        self._names = up.names if quiet else _names(self.run, up.names.get("run"), call)
        said = "".join(step.text for step in self._held.values())
        if said and not quiet:
            self.answer.resume(said, max(self._held))

    @property
    def begun(self) -> bool:
        return self._up is not None

    @property
    def quiet(self) -> bool:
        """Its frames are those of the line beside it, and it says nothing of its own."""
        return self._quiet

    @property
    def whole(self) -> Progress:
        return self._whole

    @property
    def names(self) -> Mapping[str, str]:
        return self._names

    @property
    def emitter(self) -> Emitter:
        if self._emitter is None:
            assert self._up is not None
            up = self._up.emitter
            self._emitter = up if self._quiet else BranchEmitter(self._whole.job.emitter, self._names)
        return self._emitter

    @property
    def answer(self) -> Answer:
        """What is said in this branch: no part of the turn's answer."""
        answer = self._answer
        if answer is None:
            job = self._whole.job
            answer = self._answer = Answer(job.turn.turn, self.emitter, job.max_reply_bytes, run=self.run)
        return answer

    def tool_answer(self, call: str, parts: tuple[Part, ...]) -> bool:
        if self._answer is not None and self._answer.tool_answer(call, parts):
            return True
        return self._up is not None and self._up.tool_answer(call, parts)


def _names(run: str, above: str | None, call: str | None) -> dict[str, str]:
    """What each frame of a run says of it."""
    names = {"run": run}
    if above is not None:
        names["parent_run"] = above
    if call is not None:
        names["parent_call"] = call
    return names


class BranchEmitter(Emitter):
    """The frames of one branch: they carry its names, and are numbered with those of the attempt."""

    __slots__ = ("_said", "_turns")

    def __init__(self, turns: Emitter, names: Mapping[str, str]) -> None:
        super().__init__(
            turns.ids, turns.publish, clock_ms=turns.clock_ms, call_later=turns.call_later, delta_ms=turns.delta_ms
        )
        self._turns = turns
        self._said = names

    def announce(self) -> None:
        """As the attempt says it."""
        self._turns.announce()

    def put(self, frame: type[Frame], **fields: Any) -> None:
        """Send a frame with the branch's names in its place among those of the attempt."""
        if not self._turns.closed:
            self._turns.put(frame, **{**self._said, **fields})
