"""One line of a turn's work: steps numbered, replayed and journaled. Knows no agent, no model and no other line.

A step that the journal holds is answered from there; the others are appended and durable before they count. Steps are
numbered in the order in which they begin, so that a replay meets them under the same numbers. A turn's main line is its
Progress; a Branch is a line beside it, with numbers of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn

from pydantic import JsonValue

from journal.state import steer_item
from schemas.codes import Code
from schemas.entries import ControlNote, Intent, Step, StepError, Suspend
from schemas.frames import ApprovalRequested, StepDone, Usage, encode
from schemas.parts import Part
from workers.answer import Answer
from workers.emitter import Emitter
from workers.job import TurnLost

if TYPE_CHECKING:
    from workers.progress import Progress

APPROVAL = "approval"  # the kind of a step that asks for a decision
_NAMES: Mapping[str, str] = MappingProxyType({})


class Steps:
    """`run`: the line's path, empty of the main one."""

    __slots__ = ("_answer", "_asked", "_held", "_intents", "_next", "_steers", "_taken", "_unheard")

    run = ""

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self._next = 0
        self._held: dict[int, Step] = {}
        self._unheard: dict[str, ControlNote] = {}
        self._taken: list[str] = []
        self._steers: dict[int, tuple[str, ...]] = {}
        self._intents: dict[int, Intent] = {}
        self._asked: dict[int, Suspend] = {}

    @property
    def whole(self) -> Progress:
        """The turn that this line belongs to."""
        raise NotImplementedError

    @property
    def answer(self) -> Answer:
        """What is said in this line."""
        raise NotImplementedError

    @property
    def emitter(self) -> Emitter:
        """Where its frames go."""
        raise NotImplementedError

    @property
    def names(self) -> Mapping[str, str]:
        """What each of its frames says of the line."""
        return _NAMES

    @property
    def text(self) -> str:
        """What was said so far."""
        return self._answer.text if self._answer is not None else ""

    def tool_answer(self, call: str, parts: tuple[Part, ...]) -> bool:
        """The result of a call joins the message that asked for it; whether there is one."""
        raise NotImplementedError

    def take(self, kind: str, name: str, digest: str) -> tuple[int, Step | None]:
        """The number of the step that begins, and what the journal holds of it. Raises TerminalError where that is
        another step, or where there are too many."""
        self.whole.begin_step()
        step = self._next
        self._next = step + 1
        if self._taken:
            self._steers[step], self._taken = tuple(self._taken), []
        held = self._held.pop(step, None)
        if held is not None:
            self._compare(held, kind, name, digest)
        elif self._intents and (intent := self._intents.get(step)) is not None:
            self._compare(intent, kind, name, digest)
        elif self._asked and (asked := self._asked.get(step)) is not None:
            self._compare(asked, kind, name, digest)
        return step, held

    @property
    def replaying(self) -> bool:
        """The step that begins next was begun in an earlier attempt."""
        return self._next in self._held or self._next in self._intents or self._next in self._asked

    def hear(self) -> tuple[ControlNote, ...]:
        """What the user said and the agent has not heard; where the next step is held, what it had heard before that.
        The next step makes it known that it was heard."""
        held = self._held.get(self._next) or self._intents.get(self._next) or self._asked.get(self._next)
        ops = tuple(self._unheard) if held is None else held.steers
        heard = tuple(self._unheard.pop(op) for op in ops if op in self._unheard)
        self._taken.extend(note.op for note in heard)
        for note in heard:
            self.answer.heard(steer_item(note, self.whole.job.turn.turn))
        return heard

    def heard_before(self, step: int) -> tuple[str, ...]:
        """Ops of what the agent heard right before it began step `step`."""
        return self._steers.get(step, ())

    def intent(self, step: int) -> Intent | None:
        """What an earlier attempt was about to do as step `step`, whose outcome it did not live to write down."""
        return self._intents.get(step)

    async def intend(self, intent: Intent) -> None:
        """Make `intent` durable. Whatever ends the turn from here on, its outcome is unknown until the STEP is there.
        Raises TurnLost."""
        self._intents[intent.step] = intent
        await self.whole.durable(intent)

    async def suspend(self, step: int, name: str, digest: str, asked: ApprovalRequested) -> NoReturn:
        """Wait for a decision in another attempt, which begins when there is one; this one ends here, once no other
        step is in progress. `asked`: without its number. Raises TurnLost."""
        whole = self.whole
        await whole.calm()
        asked = asked.model_copy(update={"seq": whole.job.emitter.announced_seq(), **self.names})
        whole.job.emitter.close()  # what came between would have a higher number than the question that follows it
        turn = whole.job.turn
        entry = Suspend(
            at_ms=whole.clock_ms(),  # not of the frame: other steps may have kept it waiting
            turn=turn.turn,
            attempt=turn.attempt,
            call=asked.call,
            deadline_ms=asked.expires_ms,
            step=step,
            run=self.run,
            name=name,
            digest=digest,
            text=self.answer.take(),
            steers=self._steers.pop(step, ()),
            took=whole.clock.split(),
            frames=(encode(asked).decode(),),
        )
        await whole.durable(entry)
        raise TurnLost("this turn goes on when there is a decision")

    def replayed(self, step: int) -> None:
        """What the journal holds of `step` is taken over, its text with it."""
        self.answer.take()
        self.answer.durable(step)

    async def append(self, step: Step) -> None:
        """Make `step` durable, then say so. Raises TurnLost."""
        self._intents.pop(step.step, None)
        await self.whole.durable(step)
        self.answer.durable(step.step)
        if step.usage:
            self.whole.tally.add(step.usage)
        names = {"run": self.run} if self.run else {}  # also of a quiet branch: its numbers are its own
        self.emitter.send(StepDone, step=step.step, kind=step.kind, name=step.name, **names)

    def entry(  # noqa: PLR0913 (the fields of one entry, by name)
        self,
        step: int,
        kind: str,
        name: str,
        digest: str,
        *,
        result: JsonValue,
        usage: tuple[Usage, ...] = (),
        call: str | None = None,
        error: StepError | None = None,
        content: tuple[Part, ...] | None = None,
        is_error: bool = False,
        paused: bool = False,
    ) -> Step:
        """The STEP with the text that was said since the last one."""
        whole = self.whole
        turn = whole.job.turn
        return Step(
            at_ms=whole.clock_ms(),
            turn=turn.turn,
            attempt=turn.attempt,
            step=step,
            run=self.run,
            kind=kind,
            name=name,
            digest=digest,
            result=result,
            text=self.answer.take(),
            usage=usage,
            steers=self._steers.pop(step, ()),
            call=call,
            error=error,
            content=content,
            is_error=is_error,
            paused=paused,
            took=whole.clock.split(),
        )

    def left(self) -> tuple[Step | Intent, ...]:
        """What the journal holds and nobody has asked for: steps, and intents of steps that did not begin."""
        intents: Iterable[Step | Intent] = (it for number, it in self._intents.items() if number >= self._next)
        return (*self._held.values(), *intents)

    def open_intents(self) -> tuple[Intent, ...]:
        """Those whose outcome nobody wrote down."""
        return tuple(self._intents[number] for number in sorted(self._intents))

    def holds(self, step: Step) -> bool:
        """Whether nobody has asked for it yet."""
        return self._held.get(step.step) is step

    def hold(self, steps: Iterable[Step], intents: Iterable[Intent], asked: Iterable[Suspend]) -> None:
        """What the journal holds of this line."""
        self._held = {step.step: step for step in steps}
        self._intents = {intent.step: intent for intent in intents}
        self._asked = {one.step: one for one in asked}

    def _compare(self, held: Step | Intent | Suspend, kind: str, name: str, digest: str) -> None:
        if (_kind_of(held), held.name) != (kind, name):
            what = f"{held_as(held)}, the agent now asks for {kind} {name!r}"
        elif held.digest != digest:
            what = f"{kind} {name!r} has other arguments now ({digest[:8]}) than in the journal ({held.digest[:8]})"
        else:
            return
        self.whole.fail(Code.AGENT_ERROR, f"step {place_of(held)}: {what}; its code changed under the turn")


def place_of(held: Step | Intent | Suspend) -> str:
    """A step's number, with its branch where it is in one."""
    return f"{held.run}/{held.step}" if held.run else str(held.step)


def call_of(turn: str, run: str, step: int) -> str:
    """The id of a call that no model gave one: unique in its session."""
    return f"{turn}.{run}.{step}" if run else f"{turn}.{step}"


def held_as(held: Step | Intent | Suspend) -> str:
    """For people: what the journal holds."""
    what = "the intent of " if isinstance(held, Intent) else ""
    return f"the journal holds {what}{_kind_of(held)} {held.name!r}"


def _kind_of(held: Step | Intent | Suspend) -> str:
    return held.kind if isinstance(held, Step) else "tool" if isinstance(held, Intent) else APPROVAL
