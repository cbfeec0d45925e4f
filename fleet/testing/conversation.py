"""One session in memory: its entries, folded as a worker folds them, and the turn that is open in it. Needs a loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from pydantic import JsonValue
from pydantic_core import from_json

from fleet.testing.attempt import Attempt, Plan
from fleet.testing.outcome import Frame, Outcome, outcome_of
from fleet.testing.script import Telling
from journal.fold import fold
from journal.memory_parts import MemoryProfiles
from journal.state import OpenTurn, State
from schemas.codes import MEANINGS
from schemas.entries import Claim, ControlNote, Entry, Position, Settle, Step, body_of, entry_of
from schemas.errors import Refusal
from schemas.frames import ApprovalDecided, Failed, encode
from schemas.profile import Profile
from schemas.settings import ModelSettings
from schemas.turn import TurnInput
from workers import endings
from workers.agent import Agent, AgentSpec, SessionInfo
from workers.builder import Builder
from workers.children import Children
from workers.executor import Executor
from workers.ledger.prices import NO_PRICES, Prices
from workers.lifecycle import deadline_of
from workers.models.retry import ModelCaller
from workers.result import Result
from workers.services import Services
from workers.suspended import DEADLINE

NOON_MS = 1_800_000_000_000
_PLENTY = 1_000_000  # the script says what fails: neither a breaker nor a budget gets in its way


@dataclass(frozen=True, slots=True)
class Setup:
    """What stays the same from turn to turn."""

    spec: AgentSpec
    info: SessionInfo
    profile: Profile | None
    deadline_s: float
    model_attempts: int
    began_s: float
    prices: Prices = NO_PRICES


@dataclass(frozen=True, slots=True)
class Verdict:
    """What somebody decides on what a turn awaits; `by` None: the session's user."""

    allow: bool
    arguments: dict[str, JsonValue] | None = None
    answer: JsonValue = None
    note: str | None = None
    by: str | None = None


class Conversation:
    """`entries`, `frames`: of the turn that was begun last."""

    def __init__(
        self, setup: Setup, model: Telling, state: State, *, turns: int = 0, profiles: MemoryProfiles | None = None
    ) -> None:
        self.setup = setup
        self.model = model
        self.state = state
        self.entries: list[Entry] = []
        self.frames: list[Frame] = []
        self.children = Children()
        self.profiles = profiles if profiles is not None else MemoryProfiles()
        if profiles is None and setup.profile is not None:
            whose = {"tenant": setup.info.tenant, "user": setup.info.user}
            self.profiles.put(setup.profile.model_copy(update=whose))
        loop = asyncio.get_running_loop()
        settings = ModelSettings.model_construct(
            model="scripted",
            model_attempts=setup.model_attempts,
            model_retry_floor=_PLENTY,
            model_breaker_failures=_PLENTY,
            model_breaker_share=1.0,
        )
        caller = ModelCaller(model, settings, clock_ms=self.clock_ms, chance=lambda: 0.5)
        services = Services(
            caller,
            self.clock_ms,
            self.children,
            self.profiles,
            clock_ns=lambda: round(loop.time() * 1_000_000_000),
            prices=setup.prices,
        )
        self.executor = Executor(services, call_later=loop.call_later)
        self._loop = loop
        self._builder = Builder()
        self._agent: Agent | None = None
        self._turns = turns
        self._asked_before = 0
        self._waited_s = 0.0

    def copy(self) -> Conversation:
        """A session of the same past, with an agent of its own; the script goes on where this one's is."""
        return Conversation(self.setup, self.model.copy(), self.state, turns=self._turns, profiles=self.profiles.copy())

    def clock_ms(self) -> int:
        """The wall clock: noon of some day, when the lab began."""
        return NOON_MS + round((self._loop.time() - self.setup.began_s) * 1000)

    @property
    def key(self) -> str:
        return f"{self.setup.info.tenant}/{self.setup.info.session}"

    @property
    def turn(self) -> str:
        """The turn that was begun last."""
        return f"t{self._turns}"

    @property
    def open_turn(self) -> OpenTurn:
        assert self.state.open is not None
        return self.state.open

    @property
    def steps(self) -> int:
        """How many steps of the turn are durable."""
        return sum(isinstance(entry, Step) for entry in self.entries)

    @property
    def steers(self) -> int:
        """How often the user has said something meanwhile."""
        return sum(isinstance(entry, ControlNote) and entry.kind == "steer" for entry in self.entries)

    @property
    def written(self) -> int:
        """How many entries the turn has, those aside that no attempt writes."""
        return sum(not isinstance(entry, Claim | ControlNote) for entry in self.entries)

    async def built(self) -> Agent:
        """The agent, warm or new. Raises TerminalError, RetryableError."""
        if self._agent is None:
            self._agent = await self._builder.build(self.setup.spec, self.setup.info)
        return self._agent

    def write(self, entry: Any) -> None:
        """Make an entry durable: as the store would give it back."""
        entry = entry_of(entry.k, body_of(entry), entry.frames if hasattr(entry, "frames") else ())
        self.state = fold(self.state, self.state.version + 1, entry)
        self.entries.append(entry)
        self.frames.extend(from_json(frame) for frame in getattr(entry, "frames", ()))
        if isinstance(entry, Step):
            self.model.durable(entry)

    async def begin(self, given: TurnInput, plan: Plan) -> Outcome:
        """A turn, to its end or to where it waits."""
        self._turns += 1
        self.entries, self.frames = [], []
        self._asked_before, self._waited_s = len(self.model.requests), 0.0
        self.model.begin_attempt(1)
        try:
            self.setup.spec.check(given)
        except Refusal as refusal:
            self.write(self._refused(refusal))
            return self.seen()
        self.write(self._claimed(given))
        return await self._go_on(plan)

    async def decide(self, verdict: Verdict, plan: Plan) -> Outcome:
        """Somebody decides; the turn goes on in another attempt."""
        given = {"arguments": verdict.arguments, "answer": verdict.answer, "note": verdict.note}
        value: dict[str, JsonValue] = {name: it for name, it in given.items() if it is not None}
        by = verdict.by or self.setup.info.user
        self._decided("approve" if verdict.allow else "deny", by, value or None)
        return await self._another(plan)

    async def deny_in_time(self, plan: Plan) -> Outcome:
        """Nobody has decided, and the time is up."""
        self._decided("deny", DEADLINE, None)
        return await self._another(plan)

    def steered(self, text: str) -> ControlNote:
        """The user says something meanwhile."""
        note = self._note("steer", f"{self.turn}-steer{self.steers}", self.setup.info.user, value=text)
        self.write(note)
        return note

    def seen(self) -> Outcome:
        """The turn as it is now."""
        turn = self.state.open
        attempts = turn.attempt if turn is not None else max((_attempt_of(it) for it in self.entries), default=0)
        messages = tuple(item for item in self.state.history if item.turn == self.turn)
        return outcome_of(
            self.turn,
            self.entries,
            self.frames,
            messages=messages,
            kept=dict(self.state.kept),
            requests=tuple(self.model.requests[self._asked_before :]),
            waited_s=self._waited_s,
            attempts=attempts,
        )

    async def close(self) -> None:
        """End what it started."""
        await self.children.close()

    async def _another(self, plan: Plan) -> Outcome:
        self.write(self._taken_over())
        self.model.begin_attempt(self.open_turn.attempt)
        return await self._go_on(plan)

    async def _go_on(self, plan: Plan) -> Outcome:
        """Attempt by attempt, until it is over or waits."""
        while True:
            began_s = self._loop.time()
            attempt = Attempt(self, plan)
            result = await attempt.play()
            self._waited_s += self._loop.time() - began_s
            await attempt.gone()
            if attempt.crashed:
                self._agent, plan = None, replace(plan, crash=None)
            if result is not None:
                self._finish(result)
            if result is not None or self.open_turn.awaits is not None:
                return self._checked()
            self.write(self._taken_over())
            self.model.begin_attempt(self.open_turn.attempt)

    def _finish(self, result: Result) -> None:
        op = f"cancel{self.state.version}" if result.outcome == "cancelled" else None
        entry = endings.finish(
            self.key, self.state, result, now_ms=self.clock_ms(), op=op, claim=None, prices=self.setup.prices
        )
        self.write(entry)

    def _checked(self) -> Outcome:
        fault, self.model.fault = self.model.fault, None
        if fault is not None:
            raise AssertionError(fault)
        return self.seen()

    def _claimed(self, given: TurnInput) -> Claim:
        info, now_ms = self.setup.info, self.clock_ms()
        return Claim(
            at_ms=now_ms,
            turn=self.turn,
            attempt=1,
            tries=1,
            worker="lab",
            user=info.user,
            position=Position("agent.turns", 0, self._turns, now_ms),
            digest=self.turn,
            deadline_ms=now_ms + round(self.setup.deadline_s * 1000),
            input=given,
        )

    def _taken_over(self) -> Claim:
        turn, now_ms = self.open_turn, self.clock_ms()
        return Claim(
            at_ms=now_ms,
            turn=turn.turn,
            attempt=turn.attempt + 1,
            tries=1 if turn.progress else turn.tries + 1,
            worker="lab",
            user=turn.user,
            position=turn.position,
            digest=turn.digest,
            deadline_ms=deadline_of(turn, now_ms),
        )

    def _decided(self, kind: str, by: str, value: JsonValue) -> None:
        turn = self.open_turn
        assert turn.awaits is not None
        call, asked = turn.awaits.call, from_json(turn.awaits.frames[0])
        self.write(self._note(kind, f"~{call}~{by}", by, value=value, call=call))
        frame = ApprovalDecided(
            tenant=self.setup.info.tenant,
            session=self.setup.info.session,
            turn=turn.turn,
            attempt=turn.attempt,
            seq=asked["seq"] + 1,
            at_ms=self.clock_ms(),
            call=call,
            decision="allow" if kind == "approve" else "deny",
            by=by,
        )
        self.frames.append(from_json(encode(frame)))

    def _note(self, kind: Any, op: str, by: str, *, value: JsonValue, call: str | None = None) -> ControlNote:
        turn, info = self.open_turn.turn, self.setup.info
        return ControlNote(
            at_ms=self.clock_ms(),
            op=op,
            kind=kind,
            turn=turn,
            tenant=info.tenant,
            user=info.user,
            call=call,
            by=by if call is not None else None,
            value=value,
        )

    def _refused(self, refusal: Refusal) -> Settle:
        info, now_ms = self.setup.info, self.clock_ms()
        frame = Failed(
            session=info.session,
            turn=self.turn,
            attempt=0,
            seq=1,
            at_ms=now_ms,
            tenant=info.tenant,
            code=refusal.code,
            message=refusal.text,
            retry=MEANINGS[refusal.code].retry,
        )
        frames = (encode(frame).decode(),)
        return Settle(at_ms=now_ms, turn=self.turn, user=info.user, outcome="failed", digest=self.turn, frames=frames)


def _attempt_of(entry: Entry) -> int:
    return getattr(entry, "attempt", 0)
