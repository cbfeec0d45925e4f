"""What a session's decisions ask for and get answered: plain values. Knows nothing of who carries them out.

A question (`Load` `Look` `Prove` `Find` `Arm` `Append` `Wipe`) is answered by exactly one call of the session's method
named in its docstring; a session has at most one question open. The other effects are orders.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from journal.port import Timer
from schemas.codec import ControlRecord, TurnRecord
from schemas.codes import Code
from schemas.entries import ControlNote, Entry, Open
from schemas.frames import Ack, CancelledBy
from schemas.turn import IfBusy
from workers.letters import Fault


class Trigger:
    """What asked for work and is acknowledged when that work is done.

    `record`: as it was read, for a dead letter; `mark`: takes its offset when it is done; `waits`: for how many
    publications it still waits.
    """

    __slots__ = ("mark", "record", "reply_to", "waits")

    def __init__(self, record: Any, reply_to: str | None, mark: Callable[[int], None]) -> None:
        self.record = record
        self.reply_to = reply_to
        self.mark = mark
        self.waits = 0

    def __repr__(self) -> str:
        return f"Trigger({self.record.topic}/{self.record.partition}@{self.record.offset}, waits={self.waits})"


class Mail:
    """A turn that waits. `digest`: what its content is compared by."""

    __slots__ = ("deadline_ms", "digest", "id", "record", "user")

    def __init__(self, record: TurnRecord, digest: str, deadline_ms: int) -> None:
        self.record = record
        self.id = record.id
        self.user = record.turn.user
        self.digest = digest
        self.deadline_ms = deadline_ms

    def policy(self, opened: Open | None) -> IfBusy:
        """What it does where a turn runs or waits: its own word, or else the session's."""
        return self.record.turn.if_busy or (opened.if_busy if opened is not None else "enqueue")


class Op(NamedTuple):
    """A control op that waits, with its trigger."""

    record: ControlRecord
    trigger: Trigger


class Wake(NamedTuple):
    """A timer that is due, with its trigger: to mark it is to delete it."""

    timer: Timer
    trigger: Trigger


class Load(NamedTuple):
    """Fold the session from the store. Answer: `loaded(state)`."""


class Look(NamedTuple):
    """Look for version n+1 (linearizable) and read on. Answer: `looked(state)`."""


class Prove(NamedTuple):
    """Prove membership of the group. Answer: `proved()`; not proved: the partition is given up, no answer."""


class Find(NamedTuple):
    """Whether the store knows a turn that the state has forgotten. Answer: `found(turn, known)`."""

    turn: str


class Arm(NamedTuple):
    """Insert the timer that an entry needs, before it. Answer: `armed()`."""

    turn: str
    call: str
    due_ms: int


class Append(NamedTuple):
    """Insert `entry` as `version`. Answer: `applied()`, `collided(state)` or `known()`."""

    version: int
    entry: Entry


class Wipe(NamedTuple):
    """Unset the content of all rows below `version`, forget snapshots. Answer: `wiped()`."""

    version: int


class Start(NamedTuple):
    """Run the agent on the open turn. Later: `ended(result)`."""


class Stop(NamedTuple):
    """End the running turn as cancelled, keep what was shown. Later: `ended(result)`."""

    by: CancelledBy


class Steer(NamedTuple):
    """Tell the running agent what its user says meanwhile."""

    note: ControlNote


class Abandon(NamedTuple):
    """Drop the running task: it is not ours any more. No answer."""


class Show(NamedTuple):
    """Somebody new watches the running turn: send a `reset` with the answer so far."""


class WantSlot(NamedTuple):
    """Queue for a slot. Later: `granted()`."""


class FreeSlot(NamedTuple):
    """The slot is free again (or no longer wanted)."""


class Publish(NamedTuple):
    """Publish the terminal frame of `turn`, verbatim, to every place in `to`; where it ended by its own fault, its dead
    letter as well. Later, when all of it is acknowledged: `published(turn)`."""

    turn: str
    frame: str
    to: frozenset[str | None]
    fault: Fault | None = None


class Republish(NamedTuple):
    """Read the terminal frame of `turn` from the journal and publish it, with its dead letter where it ended by its own
    fault. Later: `published(turn)`."""

    turn: str
    to: frozenset[str | None]


class Request(NamedTuple):
    """Publish what asks the user for a decision on `call` of `turn`, verbatim. Later: `requested(turn, call)`."""

    turn: str
    call: str
    frame: str
    to: frozenset[str | None]


class Decided(NamedTuple):
    """Tell whoever watches that somebody decided."""

    note: ControlNote


class Reply(NamedTuple):
    """Publish the ack of a control op. Later: `replied(trigger)`."""

    ack: Ack
    trigger: Trigger


class Acknowledge(NamedTuple):
    """Mark the trigger."""

    trigger: Trigger


class Refuse(NamedTuple):
    """A dead letter and a `refused` frame for the trigger's record, then its mark."""

    trigger: Trigger
    code: Code
    text: str


Effect = (
    Load
    | Look
    | Prove
    | Find
    | Arm
    | Append
    | Wipe
    | Start
    | Stop
    | Steer
    | Abandon
    | Show
    | WantSlot
    | FreeSlot
    | Publish
    | Republish
    | Request
    | Decided
    | Reply
    | Acknowledge
    | Refuse
)
