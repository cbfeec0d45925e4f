"""What one worker holds in memory of the session, as a value: it can be copied and compared. Knows no fact."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy as copied
from typing import Any

from journal.state import OpenTurn
from schemas.entries import Step, Suspend
from tests.explorer.scope import Record
from tests.explorer.store import Store
from workers import effects as fx
from workers.line import Line
from workers.result import Result
from workers.session import Session

SLOTS = [name for base in Session.__mro__ for name in getattr(base, "__slots__", ())]
PLAIN = (
    "_armed",
    "_found",
    "_fresh",
    "_indexed",
    "_late",
    "_merge",
    "_proof",
    "_requested",
    "_requesting",
    "_sealed",
    "_slot",
    "_stopping",
    "_swept",
    "_wants",
    "floor",
    "running",
)
QUEUES = (
    "inbox",
    "mail",
    "_cancels",
    "_closers",
    "_joins",
    "_ops",
    "_refusals",
    "_settles",
    "_steps",
    "_result",
    "_wakes",
)
APART = ("_acked", "_chains", "_held", "_publishing", "_repeats", "asked", "state")
IGNORED = ("_gave_up", "_in_call", "_rules", "_watchers", "key")  # the same everywhere, or seen by nobody here


class Agent:
    """The attempt that runs: `step`: how many steps it has; `asked`: decisions; `waits`: for a step to be durable;
    `stop`: it was told to; `unheard`: its user said something meanwhile; `sealed`: nothing joins any more."""

    __slots__ = ("asked", "attempt", "sealed", "step", "stop", "turn", "unheard", "waits")

    def __init__(self, now: OpenTurn) -> None:
        self.turn, self.attempt, self.step, self.asked = now.turn, now.attempt, len(now.steps), len(now.asked)
        self.waits = self.sealed = False
        self.unheard = bool(now.joined)
        self.stop: str | None = None

    def key(self) -> Any:
        """What it is compared by."""
        return tuple(getattr(self, name) for name in self.__slots__)


class Bench:
    """One worker's memory of the session. `outbox`: what is out and the broker has not acknowledged; `repeats`: turns
    whose frames are to be read from the journal and sent, one after the other; `slot`: `wanted`, `held` or neither."""

    __slots__ = ("agent", "outbox", "repeats", "session", "slot")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.agent: Agent | None = None
        self.outbox: list[tuple[Any, ...]] = []
        self.repeats: list[str] = []
        self.slot = ""

    def copied(self, change: Callable[[Record], Record] = lambda record: record) -> Bench:
        """A bench that shares nothing that changes; the same trigger in two places is one trigger there, too."""
        triggers: dict[int, fx.Trigger] = {}

        def copy(value: Any) -> Any:
            kind = type(value)
            if kind is fx.Trigger:
                known = triggers.get(id(value))
                if known is None:
                    known = triggers[id(value)] = fx.Trigger(change(value.record), value.reply_to, value.mark)
                    known.waits = value.waits
                return known
            if kind is fx.Op or kind is fx.Wake:
                return kind(value[0], copy(value.trigger))
            if kind is dict:
                return {key: copy(item) for key, item in value.items()}
            if kind in {tuple, list, set, Line}:
                return kind(copy(item) for item in value)
            return value  # never changed

        old, new = self.session, object.__new__(Session)
        for name in SLOTS:
            setattr(new, name, copy(getattr(old, name)))
        bench = Bench(new)
        bench.outbox, bench.repeats = copy(self.outbox), list(self.repeats)
        bench.agent, bench.slot = copied(self.agent), self.slot
        return bench

    def key(self, store: Store) -> Any:
        """What it is compared by. What has no order by meaning has none here."""
        session, seen = self.session, {}  # type: ignore[var-annotated]

        def key(value: Any) -> Any:
            kind = type(value)
            if kind is fx.Trigger:
                return (seen.setdefault(id(value), len(seen)), value.record[:3], value.waits)
            if kind is fx.Mail:
                return value.record.position.offset
            if kind is fx.Op:
                return (value.record.control.op, key(value.trigger))
            if kind is fx.Wake:
                return (value.timer, key(value.trigger))
            if kind is Step:
                return (value.turn, value.attempt, value.step)
            if kind is Suspend:
                return (value.turn, value.attempt, value.call)
            if kind is Result:
                return (value.outcome, value.text, value.by)
            return tuple(map(key, value)) if kind in {tuple, list, Line} else value

        self.outbox.sort(key=lambda item: tuple(map(str, item[:3] if item[0] == "reply" else item[:2])))
        return (
            tuple([getattr(session, name) for name in PLAIN]),
            -1 if session.state is None else store.state_id(session.state),
            _question(session.asked, store),
            tuple([key(getattr(session, name)) for name in QUEUES]),
            tuple([(turn, key(held)) for turn, held in sorted(session._held.items())]),
            tuple([(key(trigger), tuple(sorted(left)), key(wake)) for trigger, left, wake in session._chains]),
            tuple(sorted(session._publishing.items())),
            tuple(sorted(session._repeats)),
            tuple(sorted(session._acked)),
            self.agent and self.agent.key(),
            self.slot,
            key(self.outbox),
            tuple(self.repeats),
        )


def _question(asked: fx.Effect | None, store: Store) -> Any:
    if isinstance(asked, fx.Append):
        return ("append", asked.version, store.row_id(asked.version, asked.entry, ""))
    return asked and (type(asked).__name__, *asked)
