"""What a session's decisions hold, and the orders that they share: publish, answer, acknowledge. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from journal.state import OpenTurn, State
from schemas.codes import Code
from schemas.control import ApproveControl
from schemas.entries import Intent, Step, Suspend
from schemas.frames import Ack, AckState, CancelledBy
from schemas.ids import split_key
from workers.effects import (
    Acknowledge,
    Append,
    Effect,
    FreeSlot,
    Mail,
    Op,
    Publish,
    Reply,
    Republish,
    Trigger,
    Wake,
)
from workers.ledger.prices import NO_PRICES, Prices
from workers.letters import Fault
from workers.line import Line
from workers.result import Result

AHEAD_LIMIT = 256
ASIDE_LIMIT = 8  # fewer than frames may be out: they may all end, cancelled, while these are
AHEAD_TURNS = 256  # that begin after the first turn that stands aside: no snapshot is taken meanwhile
Fits = Callable[[ApproveControl], bool]
"""Whether a decision answers what was asked."""


class Terms(NamedTuple):
    """What an agent's registration says about sessions. `stands_aside`: later turns are answered while one waits for a
    decision."""

    agent: str
    version: str
    idle_ms: int
    fresh_when_expired: bool
    waits_for_poison: bool = False
    stands_aside: bool = False


class Rules(NamedTuple):
    """What holds for every session of a worker. `terms` raises Refusal (`agent_unknown`). `quarantine_ms`: the longest
    that a session waits for its poisonous turn to be dealt with; `version`: of the agent that a new session (its key)
    gets, None: as the terms say; `prices`: what tokens cost."""

    worker: str
    tries: int
    terms: Callable[[str | None], Terms]
    quarantine_ms: int = 86_400_000
    version: Callable[[str, str], str] | None = None
    prices: Prices = NO_PRICES

    def version_for(self, terms: Terms, key: str) -> str:
        """The version that a session is opened with."""
        return self.version(terms.agent, key) if self.version is not None else terms.version


class Holdings:
    """Everything between two facts. To be read from outside: `running` (the turn whose agent runs here), `asked` (the
    open question), `mail` and `inbox` (turns that wait, and records not yet looked at).

    `floor`: the offset on the partition of `agent.turns` up to which all was settled when this was made: the frames of
    turns that lie before it were acknowledged.
    """

    __slots__ = (
        "_acked",
        "_armed",
        "_cancels",
        "_chains",
        "_closers",
        "_found",
        "_fresh",
        "_gave_up",
        "_held",
        "_in_call",
        "_indexed",
        "_joins",
        "_late",
        "_merge",
        "_ops",
        "_proof",
        "_publishing",
        "_refusals",
        "_repeats",
        "_requested",
        "_requesting",
        "_result",
        "_rules",
        "_sealed",
        "_settles",
        "_slot",
        "_steps",
        "_stopping",
        "_swept",
        "_wakes",
        "_wants",
        "_watchers",
        "asked",
        "floor",
        "inbox",
        "key",
        "mail",
        "running",
        "state",
    )

    def __init__(self, key: str, rules: Rules, *, floor: int = 0, state: State | None = None) -> None:
        self.key = key
        self.floor = floor
        self.state = state
        self._rules = rules
        self.asked: Effect | None = None
        self.inbox: Line[tuple[Mail, Trigger]] = Line()
        self.mail: Line[Mail] = Line()
        self._settles: Line[tuple[Mail, Code | CancelledBy, str, Op | None]] = Line()
        self._refusals: Line[tuple[Mail, Trigger, Code, str]] = Line()
        self._ops: Line[Op] = Line()
        self._closers: list[Op] = []
        self._held: dict[str, list[Trigger]] = {}
        self._publishing: dict[str, int] = {}
        self._repeats: set[str] = set()
        self._acked: dict[str, None] = {}
        self.running: str | None = None
        self._steps: Line[Step | Intent | Suspend] = Line()
        self._result: Result | None = None
        self._stopping: CancelledBy | None = None
        self._cancels: list[Op] = []
        self._watchers: dict[str, None] = {}
        self._slot = self._wants = self._proof = self._fresh = self._late = False
        self._gave_up: Fault | None = None
        self._swept = False
        self._merge = True
        self._found: str | None = None
        self._indexed: str | None = None
        self._joins: Line[Mail] = Line()
        self._sealed = False
        self._wakes: Line[Wake] = Line()
        self._chains: list[tuple[Trigger, set[str], Wake | None]] = []
        self._armed: tuple[str, str] | None = None
        self._requesting: frozenset[tuple[str, str]] = frozenset()
        self._requested: frozenset[tuple[str, str]] = frozenset()
        self._in_call: dict[str, Fits | None] = {}  # what calls of this attempt asked while they ran; None: over

    @property
    def waiting(self) -> int:
        """Turns that wait here."""
        return len(self.mail) + len(self.inbox)

    @property
    def ending(self) -> bool:
        """The turn that runs here has its result: the FINISH is on its way."""
        return self._result is not None

    @property
    def idle(self) -> bool:
        """Nothing runs, waits, is asked or is being published: the session may leave the pool."""
        return not (
            self.asked is not None
            or self.running is not None
            or self.mail
            or self.inbox
            or self._held
            or self._ops
            or self._wakes
            or self._chains
            or self._closers
            or self._publishing
            or self._settles
            or self._refusals
            or (self.state is not None and not self._held_by_journal(self.state))
        )

    def _held_by_journal(self, state: State) -> bool:
        """Whether nothing is to be done before a trigger comes: no turn has begun, or only such as await a decision
        for which their user was asked."""
        if state.open is None and state.quarantine is None and not self._full(state) and state.parked:
            return False
        for turn in state.begun:
            asked = turn.awaits
            if asked is None and (turn is state.open or state.quarantine is None):
                return False
            if asked is not None and (turn.turn, asked.call) not in self._requested:
                return False
        return True

    def _full(self, state: State) -> bool:
        """Whether so much stands aside that what comes later waits: then the session is as one that is suspended."""
        if not state.aside:
            return False
        first = state.aside[0].seen
        return len(state.aside) >= ASIDE_LIMIT or (first is not None and state.turns - first.turns >= AHEAD_TURNS)

    def destinations(self, turn: str) -> frozenset[str | None]:
        """Where frames of `turn` go: to whoever asked for it and whoever watches; None: to whoever the journal says, or
        else the session's own partition."""
        to: set[str | None] = {trigger.reply_to for trigger in self._held.get(turn, ())}
        if not to:
            now = self.state.unended(turn) if self.state is not None else None
            to.add(now.reply_to if now is not None else None)
        to.update(self._watchers)
        return frozenset(to)

    def held(self, turn: str) -> list[Trigger]:
        """The triggers that are acknowledged with `turn`."""
        return self._held.get(turn, [])

    def _ask(self, question: Effect, out: list[Effect]) -> bool:
        self.asked = question
        out.append(question)
        return False

    def _foreign(self, op: Op, state: State) -> bool:
        return state.opened is not None and state.opened.user != op.record.control.user

    def _give_slot_back(self, out: list[Effect]) -> None:
        if self._slot or self._wants:
            self._slot = self._wants = False
            out.append(FreeSlot())

    def _hold(self, turn: str, trigger: Trigger) -> None:
        held = self._held.get(turn)
        if held is None:
            self._held[turn] = [trigger]
        else:
            held.append(trigger)

    def _publish(
        self, turn: str, frame: str, out: list[Effect], fault: Fault | None = None, asker: str | None = None
    ) -> None:
        """`asker`: where it goes if none of its records is here."""
        held = self._held.get(turn, ())
        to = frozenset([trigger.reply_to for trigger in held] if held else [asker])
        if self._watchers:
            to = to.union(self._watchers) if held or asker else frozenset(self._watchers)
        self._publishing[turn] = self._publishing.get(turn, 0) + 1
        out.append(Publish(turn, frame, to, fault))

    def _republish_unseen(self, state: State, out: list[Effect]) -> None:
        """Every terminal frame that nobody is known to have seen acknowledged."""
        for ended in state.over:
            unseen = ended.turn not in self._acked and (ended.held or ended.offset >= self.floor)
            if unseen and ended.turn not in self._publishing:
                self._republish(ended.turn, out)

    def _republish(self, turn: str, out: list[Effect], to: frozenset[str | None] | None = None) -> None:
        """Those before it go first whose records were marked before they were over: nobody brings them again. And all
        of them before one that was suspended: its record may come before those of turns that ended earlier."""
        over = self.state.ended_turns if self.state is not None else {}
        all_of_them = turn in over and over[turn].held
        for ended in over.values():
            if ended.turn == turn:
                break
            if ended.turn in self._acked or ended.turn in self._publishing:
                continue
            if ended.held or (all_of_them and ended.offset >= self.floor):
                self._republish_one(ended.turn, out, None)
        self._republish_one(turn, out, to)

    def _republish_one(self, turn: str, out: list[Effect], to: frozenset[str | None] | None) -> None:
        self._publishing[turn] = self._publishing.get(turn, 0) + 1
        self._repeats.add(turn)
        out.append(Republish(turn, to or self.destinations(turn)))

    def _reply(self, op: Op, state: AckState, turn: str | None, out: list[Effect], now_ms: int) -> None:
        tenant, session = split_key(self.key)
        op.trigger.waits += 1
        out.append(
            Reply(
                Ack(op=op.record.control.op, session=session, state=state, at_ms=now_ms, turn=turn, tenant=tenant),
                op.trigger,
            )
        )

    def _answer(self, op: Op, state: AckState, turn: str, out: list[Effect], now_ms: int) -> None:
        """Reply, and hold the op's trigger until the turn's terminal frame is acknowledged too."""
        self._hold(turn, op.trigger)
        op.trigger.waits += 1
        self._reply(op, state, turn, out, now_ms)

    def _too_late(self, op: Op, turn: str, out: list[Effect], now_ms: int) -> None:
        """Over: answered with the outcome."""
        self._republish(turn, out, frozenset((op.trigger.reply_to,)))
        self._answer(op, "too_late", turn, out, now_ms)

    def _over_before(self, turn: str, op: Op | None, out: list[Effect], now_ms: int) -> None:
        """What waited to be settled turned out to be over: its frame goes out again, and `op` came too late."""
        if op is not None:
            self._answer(op, "too_late", turn, out, now_ms)
        self._republish(turn, out)

    def _chain(self, trigger: Trigger, state: State, out: list[Effect], wake: Wake | None = None) -> None:
        """Hold a trigger until all that is open, parked or not yet published is over and acknowledged, or held by the
        journal again with a timer of its own. `wake`: what the trigger is of, where it is a timer."""
        left = {*self._publishing, *(parked.turn for parked in state.parked)}
        for turn in state.begun:
            if turn is state.open or not self._rests(turn):
                left.update((turn.turn, *turn.steering))
        trigger.waits += 1
        self._chains.append((trigger, left, wake))
        self._unchain((), out)

    def _rests(self, turn: OpenTurn) -> bool:
        """Whether a turn that stands aside needs nothing but its decision."""
        asked = turn.awaits
        return asked is not None and (turn.turn, asked.call) in self._requested and self.running != turn.turn

    def _unchain(self, turns: Iterable[str], out: list[Effect]) -> None:
        """These are over and acknowledged, or held by the journal."""
        if not self._chains:
            return
        for _, left, _ in self._chains:
            left.difference_update(turns)
        done = [trigger for trigger, left, _ in self._chains if not left]
        self._chains = [chain for chain in self._chains if chain[1]]
        for trigger in done:
            self._release(trigger, out)

    def _wake_again(self, turn: str, call: str) -> None:
        """The turn awaits a decision on `call`, and its timer is here, found due while it did not: it is the one that
        brings the turn back, so it is due for it now."""
        for trigger, _, wake in [*self._chains]:
            if wake is not None and (wake.timer.turn, wake.timer.call) == (turn, call):
                self._chains = [chain for chain in self._chains if chain[0] is not trigger]
                trigger.waits -= 1
                self._wakes.append(wake)

    def _release(self, trigger: Trigger, out: list[Effect]) -> None:
        trigger.waits -= 1
        if trigger.waits <= 0:
            out.append(Acknowledge(trigger))

    def _take_append(self) -> Append:
        asked, self.asked = self.asked, None
        assert isinstance(asked, Append)
        return asked
