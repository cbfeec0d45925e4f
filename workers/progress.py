"""One attempt's progress: its main line of steps, the branches beside it, and what all of it costs. Knows no agent."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NoReturn, TypeVar

from pydantic import JsonValue

from schemas.codes import Code
from schemas.entries import ControlNote, Intent, Step, Suspend
from schemas.errors import TerminalError
from schemas.history import HistoryItem
from schemas.parts import Part
from workers.answer import Answer
from workers.branch import Branch
from workers.canonical import MAX_KEPT_BYTES, MAX_TURN_BYTES, weight
from workers.dialogue import Dialogue
from workers.emitter import Emitter
from workers.job import Job, TurnLost
from workers.ledger.clock import WRITE, HopClock, Took
from workers.ledger.purse import Purse
from workers.ledger.tally import Tally
from workers.remains import close_calls, held_value, restore, text_of
from workers.steps import Steps, held_as, place_of

if TYPE_CHECKING:
    from workers.services import Services

T = TypeVar("T")


class Progress(Steps):
    """`fault`: why the turn cannot go on, whatever the agent makes of it; `lost`: the session is somebody else's;
    `closed`: the turn is over; `round`: how often the agent was run again."""

    __slots__ = (
        "_begun",
        "_branches",
        "_bytes",
        "_calm",
        "_clock",
        "_dialogue",
        "_doing",
        "_kept_bytes",
        "_purse",
        "_tally",
        "began_ns",
        "clock_ms",
        "clock_ns",
        "closed",
        "fault",
        "history",
        "job",
        "kept",
        "lost",
        "message",
        "round",
    )

    def __init__(self, job: Job, clock_ms: Callable[[], int], clock_ns: Callable[[], int]) -> None:
        super().__init__()
        turn = job.turn
        self.began_ns = 0  # when the agent began; 0: it did not
        self.job = job
        self.clock_ms = clock_ms
        self.clock_ns = clock_ns
        self.fault: TerminalError | None = None
        self.lost = False
        self.closed = False
        self.round = 0
        self.history = job.history
        self.message: HistoryItem | None = None
        self.kept: dict[str, JsonValue] | None = None
        self._kept_bytes: dict[str, int] | None = None
        self._begun = 0
        self._doing = 0
        self._clock: HopClock | None = None
        self._tally: Tally | None = None
        self._purse: Purse | None = None
        self._branches: dict[str, Branch] | None = None
        self._calm: asyncio.Event | None = None
        self._dialogue: Dialogue | None = None
        self._bytes = 0
        if turn.joined:
            self._unheard = {note.op: note for note in turn.joined}
        if turn.attempt > 1:
            self._resume()

    @property
    def whole(self) -> Progress:
        return self

    @property
    def emitter(self) -> Emitter:
        """The frames of this attempt."""
        return self.job.emitter

    @property
    def answer(self) -> Answer:
        """What the assistant says in this turn."""
        answer = self._answer
        if answer is None:
            answer = self._answer = Answer(self.job.turn.turn, self.job.emitter, self.job.max_reply_bytes)
        return answer

    @property
    def silent(self) -> bool:
        """The agent has shown nothing, asked for no step, and did neither in an earlier attempt."""
        return self._answer is None and self._begun == 0 and self.fault is None

    @property
    def clock(self) -> HopClock:
        """Which hop the turn is in; most short turns need none."""
        clock = self._clock
        if clock is None:
            clock = self._clock = HopClock(self.clock_ns, self.began_ns or self.clock_ns())
        return clock

    def took(self) -> Took:
        """Since the agent began, by hop."""
        if self._clock is not None:
            return self._clock.total()
        return 0, 0, 0, (self.clock_ns() - self.began_ns) // 1000 if self.began_ns else 0

    @property
    def tally(self) -> Tally:
        """What the turn has used of models."""
        tally = self._tally
        if tally is None:
            tally = self._tally = Tally()
        return tally

    def purse(self, services: Services) -> Purse:
        """What the turn may still spend."""
        purse = self._purse
        if purse is None:
            purse = self._purse = Purse(self.job, self.tally, services)
        return purse

    @property
    def dialogue(self) -> Dialogue:
        """What is asked while a call runs."""
        dialogue = self._dialogue
        if dialogue is None:
            dialogue = self._dialogue = Dialogue(self)
        return dialogue

    @property
    def frugal(self) -> bool:
        """No model was asked, in this attempt or before."""
        return self._tally is None

    @property
    def in_step(self) -> bool:
        """A step has begun and is not durable."""
        return self._doing > 0

    def tool_answer(self, call: str, parts: tuple[Part, ...]) -> bool:
        return self.answer.tool_answer(call, parts)

    def branch(self, up: Steps, name: str, *, call: str | None, quiet: bool) -> Branch:
        """A line beside `up`. What the journal holds of it is there already. Raises TerminalError where the turn has
        one of that name."""
        self.check_open()
        run = self._path(up, name)
        branches = self._branches
        if branches is None:
            branches = self._branches = {}
        branch = branches.get(run)
        if branch is not None and branch.begun:
            self.fail(Code.AGENT_ERROR, f"branch {run!r} was begun already in this turn; give each a name of its own")
        if branch is None:
            branch = branches[run] = Branch(self, run)
        branch.begin(up, call=call, quiet=quiet)
        return branch

    def pass_over(self, up: Steps, name: str) -> None:
        """What this branch came to is known: nobody goes through it again."""
        run = self._path(up, name)
        for path in list(self._branches or ()):
            if path == run or path.startswith(f"{run}/"):
                del self._branches[path]  # type: ignore[union-attr]

    def _path(self, up: Steps, name: str) -> str:
        if up.run:
            return f"{up.run}/{name}"
        return f"{name}@{self.round + 1}" if self.round else name

    async def do(self, step: Awaitable[T]) -> T:
        """Do what one step does. Raises TurnLost where the worker, which leaves, handed the turn over after it."""
        self._doing += 1
        try:
            done = await step
        finally:
            self._doing -= 1
            if self._doing == 0 and self._calm is not None:
                self._calm.set()  # also where the step raised: whoever waits for a decision waits for this
        if self._doing == 0:
            self.job.link.at_boundary()
            if self.closed:
                raise TurnLost("this turn goes on with another worker")
        return done

    async def calm(self) -> None:
        """Returns once no step is in progress. Raises as `check_open`."""
        while self._doing:
            if self._calm is None or self._calm.is_set():
                self._calm = asyncio.Event()  # one for all that wait
            await self._calm.wait()
        self.check_open()

    def check_open(self) -> None:
        """Raises TurnLost where the turn is over for this context, TerminalError where it cannot go on."""
        if self.closed or self.lost:
            raise TurnLost("this turn is over here")
        if self.fault is not None:
            raise self.fault

    def begin_step(self) -> None:
        """One more step, in whichever line. Raises as `check_open`, and where there are too many."""
        self.check_open()
        if self._begun >= self.job.max_steps:
            self.fail(Code.AGENT_ERROR, f"more than {self.job.max_steps} steps in one turn")
        self._begun += 1

    @property
    def steered(self) -> bool:
        """The user said something that the agent has not heard."""
        return bool(self._unheard)

    def steer(self, note: ControlNote) -> None:
        """The user says something meanwhile."""
        self._unheard[note.op] = note

    def fitting(self, result: JsonValue, what: str) -> JsonValue:
        """`result`, counted. Raises TerminalError(too_large) where all that this turn's steps hold is too much."""
        bytes_ = self._bytes + weight(result)
        if bytes_ > MAX_TURN_BYTES:
            text = f"{what}: with it the turn's steps hold {bytes_} bytes, at most {MAX_TURN_BYTES}"
            raise TerminalError(Code.TOO_LARGE, text)
        self._bytes = bytes_
        return result

    def keep_value(self, name: str, value: JsonValue) -> None:
        """From the end of this turn on the session keeps `value` (JSON) under `name`; None: nothing. Raises
        TerminalError (too_large) where all that it keeps is too much."""
        self.check_open()
        if self._kept_bytes is None:
            self._kept_bytes = {key: _bytes_of(key, it) for key, it in self.job.kept.items()}
        sizes = {**self._kept_bytes, name: 0 if value is None else _bytes_of(name, value)}
        if (bytes_ := 1 + sum(sizes.values())) > MAX_KEPT_BYTES:
            text = f"{name!r}: with it the session keeps {bytes_} bytes of JSON, at most {MAX_KEPT_BYTES}"
            raise TerminalError(Code.TOO_LARGE, text)
        self._kept_bytes = sizes
        self.kept = {**(self.kept or {}), name: value}

    async def durable(self, entry: Step | Intent | Suspend) -> None:
        """Append `entry`. Raises TurnLost."""
        self.check_open()
        self.clock.enter(WRITE)
        try:
            await self.job.link.append(entry)
        except TurnLost:
            self.lost = True
            raise
        finally:
            self.clock.leave(WRITE)

    def fail(self, code: Code, text: str) -> NoReturn:
        """The turn cannot go on."""
        self.fault = TerminalError(code, text)
        raise self.fault

    def settle(self) -> None:
        """The agent is done: every step and intent that the journal holds must have been asked for. Raises
        TerminalError. Of a branch that was begun some may be left: it was given up when another one failed."""
        if self.fault is not None:
            raise self.fault
        branches = self._branches.values() if self._branches else ()
        unasked = self.left() or [it for branch in branches if not branch.begun for it in branch.left()]
        if unasked:
            first = min(unasked, key=lambda it: (it.run, it.step))
            text = (
                f"step {place_of(first)}: {held_as(first)}, the agent ended without it; its code changed under the turn"
            )
            self.fail(Code.AGENT_ERROR, text)

    def keep(self) -> str:
        """The turn is cut short: the text that stays, that of steps which this attempt did not come to with it."""
        lines = {"": self, **(self._branches or {})}
        left = tuple(step for step in self.job.turn.steps if step.run in lines and lines[step.run].holds(step))
        restore(self.answer, left, self._unheard, self.job.turn.turn)
        self.close_calls()
        return self.answer.keep()

    def close_calls(self) -> None:
        """No call that was begun stays without a result."""
        branches = self._branches.values() if self._branches else ()
        close_calls(self.answer, [*self.open_intents(), *(it for line in branches for it in line.open_intents())])

    def _resume(self) -> None:
        """What earlier attempts left, each line its own."""
        turn = self.job.turn
        lines: dict[str, tuple[list[Step], list[Intent], list[Suspend]]] = defaultdict(lambda: ([], [], []))
        for step in turn.steps:
            lines[step.run][0].append(step)
        for intent in turn.intents:
            lines[intent.run][1].append(intent)
        for asked in turn.asked:
            lines[asked.run][2].append(asked)
        self.hold(*lines.pop("", ((), (), ())))
        if lines:
            self._branches = {run: Branch(self, run) for run in lines}
            for run, held in lines.items():
                self._branches[run].hold(*held)
        self._tally = Tally.of(turn.steps)
        self._bytes = sum(weight(held_value(step)) for step in turn.steps)
        self.answer.resume(text_of(turn.steps), max(self._held, default=-1))


def _bytes_of(name: str, value: JsonValue) -> int:
    """Of one kept value in a JSON object: name, colon, value, and a comma or the closing brace."""
    return weight(name) + weight(value) + 2
