"""What a session's decisions hold, and the orders that they share: publish, answer, acknowledge. Decides nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from journal.state import State
from schemas.codes import Code
from schemas.entries import Intent, Step
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
)
from workers.letters import Fault
from workers.result import Result

AHEAD_LIMIT = 256
OWN_PARTITION: frozenset[str | None] = frozenset((None,))


class Terms(NamedTuple):
    """What an agent's registration says about sessions."""

    agent: str
    version: str
    idle_ms: int
    fresh_when_expired: bool


class Rules(NamedTuple):
    """What holds for every session of a worker. `terms` raises Refusal (`agent_unknown`)."""

    worker: str
    tries: int
    terms: Callable[[str | None], Terms]


class Holdings:
    """Everything between two facts. To be read from outside: `running` (the turn whose agent runs here), `asked` (the
    open question), `mail` and `inbox` (turns that wait, and records not yet looked at).

    `floor`: the offset on the partition of `agent.turns` up to which all was settled when this was made: the frames of
    turns that lie before it were acknowledged.
    """

    __slots__ = (
        "_acked",
        "_cancels",
        "_closers",
        "_found",
        "_fresh",
        "_gave_up",
        "_held",
        "_indexed",
        "_joins",
        "_late",
        "_merge",
        "_ops",
        "_proof",
        "_publishing",
        "_refusals",
        "_repeats",
        "_result",
        "_rules",
        "_sealed",
        "_settles",
        "_slot",
        "_steps",
        "_stopping",
        "_swept",
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
        self.inbox: deque[tuple[Mail, Trigger]] = deque()
        self.mail: deque[Mail] = deque()
        self._settles: deque[tuple[Mail, Code | CancelledBy, str, Op | None]] = deque()
        self._refusals: deque[tuple[Mail, Trigger, Code, str]] = deque()
        self._ops: deque[Op] = deque()
        self._closers: list[Op] = []
        self._held: dict[str, list[Trigger]] = {}
        self._publishing: dict[str, int] = {}
        self._repeats: set[str] = set()
        self._acked: dict[str, None] = {}
        self.running: str | None = None
        self._steps: deque[Step | Intent] = deque()
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
        self._joins: deque[Mail] = deque()
        self._sealed = False

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
            or self._closers
            or self._publishing
            or self._settles
            or self._refusals
            or (self.state is not None and self.state.open is not None)
        )

    def destinations(self, turn: str) -> frozenset[str | None]:
        """Where frames of `turn` go: to whoever asked for it and whoever watches; None: the session's own partition."""
        to: set[str | None] = {trigger.reply_to for trigger in self._held.get(turn, ())}
        if not to and self.state is not None and self.state.open is not None and self.state.open.turn == turn:
            to.add(self.state.open.reply_to)
        to.update(self._watchers)
        return frozenset(to) if to else frozenset((None,))

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

    def _publish(self, turn: str, frame: str, out: list[Effect], fault: Fault | None = None) -> None:
        held = self._held.get(turn, ())
        to = frozenset([trigger.reply_to for trigger in held]) if held else OWN_PARTITION
        if self._watchers:
            to = to.union(self._watchers) if held else frozenset(self._watchers)
        self._publishing[turn] = self._publishing.get(turn, 0) + 1
        out.append(Publish(turn, frame, to, fault))

    def _republish_unseen(self, state: State, out: list[Effect]) -> None:
        """Every terminal frame that nobody is known to have seen acknowledged."""
        for ended in state.over:
            unseen = ended.turn not in self._acked and ended.offset >= self.floor
            if unseen and ended.turn not in self._publishing:
                self._republish(ended.turn, out)

    def _republish(self, turn: str, out: list[Effect], to: frozenset[str | None] | None = None) -> None:
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

    def _release(self, trigger: Trigger, out: list[Effect]) -> None:
        trigger.waits -= 1
        if trigger.waits <= 0:
            out.append(Acknowledge(trigger))

    def _take_append(self) -> Append:
        asked, self.asked = self.asked, None
        assert isinstance(asked, Append)
        return asked
