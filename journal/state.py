"""A session's state, and the turn that is open in it: values. What makes them is `journal.fold`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from pydantic import JsonValue

from journal.history import History
from schemas.entries import (
    ControlNote,
    Intent,
    Open,
    Park,
    Position,
    Step,
    Suspend,
)
from schemas.history import HistoryItem, said, whole
from schemas.ids import message_id
from schemas.parts import Part, plain_text
from schemas.receipt import Spending
from schemas.snapshot import AheadCancel, Closed, EndedTurn, SeenOp
from schemas.turn import TurnInput

_T = TypeVar("_T")


class Seen(NamedTuple):
    """What a turn began with, while the session has gone on: its attempts see that and nothing later. `turns`: how
    many had begun."""

    history: History
    kept: Mapping[str, JsonValue]
    turns: int


class OpenTurn(NamedTuple):
    """The turn that has begun and is not over. `version`: of its latest CLAIM; `progress`: something durable happened
    since that CLAIM (a step, a suspension), so that the next CLAIM counts as a first try again. `tries`: a RELEASE
    takes its own attempt out of the count, and no other. `intents`: those whose STEP is not there, so that nobody knows
    what became of the call. `asked`: every decision that it asked for; `suspended`: the last one, until the CLAIM that
    follows. `held`: it was suspended or parked, so that its record was marked long ago.

    `claimed_ms`: of the latest CLAIM, 0: of its only one; `suspended_ms`: how long it waited for decisions; `lost_ms`:
    how long attempts had run, or lain dead, since their last STEP when they were taken over; `handed`: RELEASEs.
    `seen`: None where it is still what the session holds.
    """

    turn: str
    attempt: int
    tries: int
    version: int
    worker: str
    user: str
    digest: str
    input: TurnInput
    position: Position
    deadline_ms: int
    reply_to: str | None
    traceparent: str | None
    began_ms: int
    progress: bool = False
    steps: tuple[Step, ...] = ()
    intents: tuple[Intent, ...] = ()
    suspended: Suspend | None = None
    asked: tuple[Suspend, ...] = ()
    decisions: tuple[ControlNote, ...] = ()
    joined: tuple[ControlNote, ...] = ()
    held: bool = False
    claimed_ms: int = 0
    suspended_ms: int = 0
    lost_ms: int = 0
    handed: int = 0
    seen: Seen | None = None

    @property
    def awaits(self) -> Suspend | None:
        """What the turn is suspended on, as long as nobody has decided."""
        suspended = self.suspended
        return suspended if suspended is not None and self.decided(suspended.call) is None else None

    def idle_ms(self, now_ms: int) -> tuple[int, int]:
        """How long it was suspended, and how much was lost, if its latest attempt ended with what is written of it."""
        if self.suspended is not None:
            return self.suspended_ms + max(now_ms - self.suspended.at_ms, 0), self.lost_ms
        since_ms = self.claimed_ms or self.began_ms
        if self.steps and self.steps[-1].attempt == self.attempt:
            since_ms = self.steps[-1].at_ms
        return self.suspended_ms, self.lost_ms + max(now_ms - since_ms, 0)

    @property
    def steering(self) -> tuple[str, ...]:
        """The turns that joined it, in order; what was said by a command is none."""
        return tuple([note.turn for note in self.joined if note.input is not None]) if self.joined else ()

    def decided(self, call: str) -> ControlNote | None:
        """The decision on `call`: the first one holds."""
        return next((note for note in self.decisions if note.call == call), None)


class Quarantined(NamedTuple):
    """Turns wait behind `turn`, which was poison, until its `letter` is redriven or discarded. `first`: as which turn
    it was redriven."""

    turn: str
    letter: str
    until_ms: int
    first: str | None = None


class State(NamedTuple):
    """A session at `version`; 0: nothing was ever written. `opened` None: no life (never opened, or closed).

    `base`: the version that opened this life. `ended_turns`: the last ones that are over, by id, oldest first. `wiped`:
    no content is left before the last CLOSE. `kept`: what its agents keep from turn to turn, by name;
    `spent`: by the turns of this life that are over. `aside`: turns that wait for decisions while later ones run, in
    the order in which they were suspended; while there is one, `open` is not suspended.
    """

    version: int = 0
    base: int = 0
    opened: Open | None = None
    open: OpenTurn | None = None
    history: History = History()
    turns: int = 0
    last_ms: int = 0
    ended_turns: Mapping[str, EndedTurn] = MappingProxyType({})
    ops: tuple[SeenOp, ...] = ()
    ahead: tuple[AheadCancel, ...] = ()
    parked: tuple[Park, ...] = ()
    closed: Closed | None = None
    wiped: bool = True
    quarantine: Quarantined | None = None
    kept: Mapping[str, JsonValue] = MappingProxyType({})
    spent: Spending = Spending()
    aside: tuple[OpenTurn, ...] = ()

    @property
    def at_rest(self) -> bool:
        """Nothing is open, stands aside, is parked or in quarantine: a snapshot may be taken."""
        return self.open is None and not (self.parked or self.aside) and self.wiped and self.quarantine is None

    @property
    def begun(self) -> tuple[OpenTurn, ...]:
        """The turns that have begun and are not over: the open one, those that stand aside."""
        return self.aside if self.open is None else (self.open, *self.aside)

    def unended(self, turn: str | None) -> OpenTurn | None:
        """The turn, where it has begun and is not over."""
        if self.open is not None and self.open.turn == turn:
            return self.open
        return next((item for item in self.aside if item.turn == turn), None) if self.aside else None

    def ended(self, turn: str) -> EndedTurn | None:
        """What the state remembers of a turn that is over. None: running, unknown, or forgotten (ask the index)."""
        return self.ended_turns.get(turn)

    @property
    def over(self) -> tuple[EndedTurn, ...]:
        """The turns that are over, as far as they are remembered, oldest first."""
        return tuple(self.ended_turns.values())

    def seen(self, op: str) -> SeenOp | None:
        for item in reversed(self.ops):
            if item.op == op:
                return item
        return None

    def parked_turn(self, turn: str) -> Park | None:
        return next((item for item in self.parked if item.turn == turn), None)

    def cancelled_ahead(self, turn: str, user: str) -> AheadCancel | None:
        return next((item for item in self.ahead if item.turn == turn and item.user == user), None)


EMPTY = State()


def user_item(turn: OpenTurn) -> HistoryItem:
    """The user's message as it joins the history."""
    return _asked(message_id(turn.turn, 0), turn.turn, turn.input, turn.began_ms)


def steer_item(note: ControlNote, turn: str) -> HistoryItem:
    """What `note` says to the running `turn`, as it joins the history."""
    given = note.input
    if given is None:
        return said(message_id(note.op, 0), turn=turn, role="user", text=str(note.value), at_ms=note.at_ms)
    return _asked(message_id(note.turn, 0), turn, given, note.at_ms)


def _asked(item: str, turn: str, given: TurnInput, at_ms: int) -> HistoryItem:
    parts: tuple[Part, ...] = (plain_text(given.text), *given.parts) if given.text else given.parts
    return whole(item, turn, "user", parts, at_ms)
