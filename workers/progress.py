"""One attempt's progress: steps numbered, replayed and journaled; what they cost. Knows no agent and no model.

A step that the journal holds is answered from there; the others are appended and durable before they count. Steps are
numbered in the order in which they begin, so that a replay meets them under the same numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

from pydantic import JsonValue

from journal.state import steer_item
from schemas.codes import Code
from schemas.entries import ControlNote, Intent, Step, StepError, Suspend
from schemas.errors import TerminalError
from schemas.frames import ApprovalRequested, StepDone, Usage, encode
from schemas.history import HistoryItem
from workers.answer import Answer
from workers.canonical import MAX_TURN_BYTES, weight
from workers.job import Job, TurnLost
from workers.remains import close_calls, restore

T = TypeVar("T")
APPROVAL = "approval"  # the kind of a step that asks for a decision


class Progress:
    """`fault`: why the turn cannot go on, whatever the agent makes of it; `lost`: the session is somebody else's;
    `closed`: the turn is over. Times in microseconds."""

    __slots__ = (
        "_answer",
        "_asked",
        "_bytes",
        "_calm",
        "_doing",
        "_held",
        "_intents",
        "_next",
        "_steers",
        "_taken",
        "_unheard",
        "_usage",
        "began_ns",
        "clock_ms",
        "closed",
        "fault",
        "history",
        "job",
        "lost",
        "message",
        "model_calls",
        "model_us",
        "retries",
    )

    def __init__(self, job: Job, clock_ms: Callable[[], int]) -> None:
        turn = job.turn
        self.began_ns = 0  # when the agent began; 0: it did not
        self.job = job
        self.clock_ms = clock_ms
        self._answer: Answer | None = None
        self.fault: TerminalError | None = None
        self.lost = False
        self.closed = False
        self.model_us = 0
        self.model_calls = 0
        self.retries = 0
        self._next = 0
        self._doing = 0
        self._usage: dict[tuple[str | None, str], Usage] = {}
        self._held: dict[int, Step] = {}
        self.history = job.history
        self.message: HistoryItem | None = None
        self._unheard: dict[str, ControlNote] = {note.op: note for note in turn.joined}
        self._taken: list[str] = []
        self._steers: dict[int, tuple[str, ...]] = {}
        self._intents = {intent.step: intent for intent in turn.intents}
        self._asked = {asked.step: asked for asked in turn.asked}
        self._calm: asyncio.Event | None = None
        self._bytes = 0
        if turn.attempt > 1:
            self._resume(turn.steps)

    @property
    def answer(self) -> Answer:
        """What the assistant says in this turn."""
        answer = self._answer
        if answer is None:
            answer = self._answer = Answer(self.job.turn.turn, self.job.emitter, self.job.max_reply_bytes)
        return answer

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._answer.text if self._answer is not None else ""

    @property
    def silent(self) -> bool:
        """The agent has shown nothing, asked for no step, and did neither in an earlier attempt."""
        return self._answer is None and self._next == 0 and self.fault is None

    @property
    def usage(self) -> tuple[Usage, ...]:
        """Tokens by provider and model."""
        return tuple(self._usage.values()) if self._usage else ()

    @property
    def in_step(self) -> bool:
        """A step has begun and is not durable."""
        return self._doing > 0

    async def do(self, step: Awaitable[T]) -> T:
        """Do what one step does. Raises TurnLost where the worker, which leaves, handed the turn over after it."""
        self._doing += 1
        try:
            done = await step
        finally:
            self._doing -= 1
        if self._doing == 0:
            self.job.link.at_boundary()
            if self._calm is not None:
                self._calm.set()
            if self.closed:
                raise TurnLost("this turn goes on with another worker")
        return done

    def check_open(self) -> None:
        """Raises TurnLost where the turn is over for this context, TerminalError where it cannot go on."""
        if self.closed or self.lost:
            raise TurnLost("this turn is over here")
        if self.fault is not None:
            raise self.fault

    def take(self, kind: str, name: str, digest: str) -> tuple[int, Step | None]:
        """The number of the step that begins, and what the journal holds of it. Raises TerminalError where that is
        another step, or where there are too many."""
        self.check_open()
        step = self._next
        if step >= self.job.max_steps:
            self._fail(Code.AGENT_ERROR, f"more than {self.job.max_steps} steps in one turn")
        self._next = step + 1
        if self._taken:
            self._steers[step], self._taken = tuple(self._taken), []
        held = self._held.pop(step, None)
        if held is not None:
            self._compare(held, kind, name, digest)
            self.count(held.usage)
        elif self._intents and (intent := self._intents.get(step)) is not None:
            self._compare(intent, kind, name, digest)
        elif self._asked and (asked := self._asked.get(step)) is not None:
            self._compare(asked, kind, name, digest)
        return step, held

    @property
    def steered(self) -> bool:
        """The user said something that the agent has not heard."""
        return bool(self._unheard)

    def steer(self, note: ControlNote) -> None:
        """The user says something meanwhile."""
        self._unheard[note.op] = note

    def hear(self) -> tuple[ControlNote, ...]:
        """What the user said and the agent has not heard; where the next step is held, what it had heard before that.
        The next step makes it known that it was heard."""
        held = self._held.get(self._next) or self._intents.get(self._next) or self._asked.get(self._next)
        ops = tuple(self._unheard) if held is None else held.steers
        heard = tuple(self._unheard.pop(op) for op in ops if op in self._unheard)
        self._taken.extend(note.op for note in heard)
        for note in heard:
            self.answer.heard(steer_item(note, self.job.turn.turn))
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
        await self._durable(intent)

    async def suspend(self, step: int, name: str, digest: str, asked: ApprovalRequested) -> NoReturn:
        """Wait for a decision in another attempt, which begins when there is one; this one ends here, once no other
        step is in progress. `asked`: without its number. Raises TurnLost."""
        while self._doing:
            self._calm = asyncio.Event()
            await self._calm.wait()
        self.check_open()
        asked = asked.model_copy(update={"seq": self.job.emitter.announced_seq()})
        turn = self.job.turn
        entry = Suspend(
            at_ms=asked.at_ms,
            turn=turn.turn,
            attempt=turn.attempt,
            call=asked.call,
            deadline_ms=asked.expires_ms,
            step=step,
            name=name,
            digest=digest,
            text=self.answer.take(),
            steers=self._steers.pop(step, ()),
            frames=(encode(asked).decode(),),
        )
        await self._durable(entry)
        raise TurnLost("this turn goes on when there is a decision")

    def replayed(self, step: int) -> None:
        """What the journal holds of `step` is taken over, its text with it."""
        self.answer.take()
        self.answer.durable(step)

    async def append(self, step: Step) -> None:
        """Make `step` durable, then say so. Raises TurnLost."""
        self._intents.pop(step.step, None)
        await self._durable(step)
        self.answer.durable(step.step)
        self.count(step.usage)
        self.job.emitter.send(StepDone, step=step.step, kind=step.kind, name=step.name)

    def fitting(self, result: JsonValue, what: str) -> JsonValue:
        """`result`, counted. Raises TerminalError(too_large) where all that this turn's steps hold is too much."""
        bytes_ = self._bytes + weight(result)
        if bytes_ > MAX_TURN_BYTES:
            text = f"{what}: with it the turn's steps hold {bytes_} bytes, at most {MAX_TURN_BYTES}"
            raise TerminalError(Code.TOO_LARGE, text)
        self._bytes = bytes_
        return result

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
    ) -> Step:
        """The STEP with the text that was said since the last one."""
        turn = self.job.turn
        return Step(
            at_ms=self.clock_ms(),
            turn=turn.turn,
            attempt=turn.attempt,
            step=step,
            kind=kind,
            name=name,
            digest=digest,
            result=result,
            text=self.answer.take(),
            usage=usage,
            steers=self._steers.pop(step, ()),
            call=call,
            error=error,
        )

    def settle(self) -> None:
        """The agent is done: every step and intent that the journal holds must have been asked for. Raises
        TerminalError."""
        if self.fault is not None:
            raise self.fault
        asked = self._next
        left: dict[int, Step | Intent] = {number: it for number, it in self._intents.items() if number >= asked}
        left.update(self._held)
        if left:
            first = left[min(left)]
            self._fail(
                Code.AGENT_ERROR,
                f"step {first.step}: {_held_as(first)}, the agent ended without it; its code changed under the turn",
            )

    def keep(self) -> str:
        """The turn is cut short: the text that stays, that of steps which this attempt did not come to with it."""
        restore(self.answer, tuple(self._held.values()), self._unheard, self.job.turn.turn)
        self.close_calls()
        return self.answer.keep()

    def close_calls(self) -> None:
        """No call that was begun stays without a result."""
        close_calls(self.answer, [self._intents[number] for number in sorted(self._intents)])

    def count(self, usage: tuple[Usage, ...]) -> None:
        """Add tokens."""
        for new in usage:
            key = (new.provider, new.model)
            old = self._usage.get(key)
            self._usage[key] = new if old is None else _sum(old, new)

    def _resume(self, steps: tuple[Step, ...]) -> None:
        self._held = {step.step: step for step in steps}
        self._bytes = sum(weight(step.result) for step in steps)
        self.answer.resume("".join(step.text for step in steps), max(self._held, default=-1))

    async def _durable(self, entry: Step | Intent | Suspend) -> None:
        self.check_open()
        try:
            await self.job.link.append(entry)
        except TurnLost:
            self.lost = True
            raise

    def _compare(self, held: Step | Intent | Suspend, kind: str, name: str, digest: str) -> None:
        if (_kind_of(held), held.name) != (kind, name):
            what = f"{_held_as(held)}, the agent now asks for {kind} {name!r}"
        elif held.digest != digest:
            what = f"{kind} {name!r} has other arguments now ({digest[:8]}) than in the journal ({held.digest[:8]})"
        else:
            return
        self._fail(Code.AGENT_ERROR, f"step {held.step}: {what}; its code changed under the turn")

    def _fail(self, code: Code, text: str) -> None:
        self.fault = TerminalError(code, text)
        raise self.fault


def _kind_of(held: Step | Intent | Suspend) -> str:
    return held.kind if isinstance(held, Step) else "tool" if isinstance(held, Intent) else APPROVAL


def _held_as(held: Step | Intent | Suspend) -> str:
    what = "the intent of " if isinstance(held, Intent) else ""
    return f"the journal holds {what}{_kind_of(held)} {held.name!r}"


def _sum(old: Usage, new: Usage) -> Usage:
    return Usage(
        provider=old.provider,
        model=old.model,
        input_tokens=old.input_tokens + new.input_tokens,
        output_tokens=old.output_tokens + new.output_tokens,
        cached_input_tokens=_plus(old.cached_input_tokens, new.cached_input_tokens),
        reasoning_tokens=_plus(old.reasoning_tokens, new.reasoning_tokens),
    )


def _plus(old: int | None, new: int | None) -> int | None:
    return None if old is None and new is None else (old or 0) + (new or 0)
