"""Drives one session's decisions without I/O: a list for a journal, and every question answered at once.

Two desks over one journal are two workers that both believe they own the session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from journal.fold import fold
from journal.port import Timer
from journal.state import EMPTY, State
from schemas.codec import ControlRecord, TurnRecord
from schemas.codes import Code
from schemas.control import Control
from schemas.entries import Entry, Intent, Position, Step, Suspend
from schemas.errors import Refusal
from schemas.history import said
from schemas.turn import Turn, digest
from workers import effects as fx
from workers.holdings import Rules, Terms
from workers.letters import Fault
from workers.result import Result
from workers.session import Session

TERMS = Terms("echo", "1", 1_000_000, True)


@dataclass
class FakeRecord:
    """A record as the broker gave it."""

    offset: int
    topic: str = "agent.turns"
    partition: int = 0
    timestamp: int = 0
    key: Any = b"s"
    value: bytes | None = b"{}"
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass
class Log:
    """A session's journal."""

    entries: list[Entry] = field(default_factory=list)
    wiped: int = 0
    timers: dict[tuple[str, str], Timer] = field(default_factory=dict)

    def state(self) -> State:
        state = EMPTY
        for version, entry in enumerate(self.entries, 1):
            state = fold(state, version, entry)
        return state._replace(wiped=state.closed is None or self.wiped >= state.closed.version)

    def known(self, turn: str) -> bool:
        return any(entry.introduces == turn for entry in self.entries)

    def insert(self, order: fx.Append) -> str:
        if order.version <= len(self.entries):
            return "collided"
        assert order.version == len(self.entries) + 1, "a gap"
        turn = order.entry.introduces
        if turn is not None and self.known(turn):
            return "known"
        self.entries.append(order.entry)
        return "applied"

    @property
    def kinds(self) -> list[str]:
        return [entry.k for entry in self.entries]


class Desk:
    """One worker's view of the session. `auto`: questions are answered and publications acknowledged at once."""

    def __init__(
        self, log: Log | None = None, *, terms: Callable[[str | None], Terms] = lambda _: TERMS, auto: bool = True
    ) -> None:
        self.log = log or Log()
        self.session = Session("default/s", Rules("w1", 3, terms))
        self.now_ms = 1_000_000_000_000
        self.auto = auto
        self.slots = 1
        self.member = True
        self.marked: list[int] = []
        self.published: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.acks: list[tuple[str, str]] = []
        self.refused: list[tuple[int, str]] = []
        self.started: list[tuple[str, int]] = []
        self.stopped: list[str] = []
        self.steered: list[str] = []
        self.abandoned = 0
        self.shown = 0
        self.requests: list[tuple[str, str]] = []
        self.unasked: list[tuple[str, str]] = []
        self.decided: list[tuple[str, str]] = []
        self.to: dict[str, frozenset[str | None]] = {}
        self.questions: list[fx.Effect] = []
        self.unacked: list[str] = []
        self.offset = 0
        self.given_up = False

    # facts

    def turn(
        self,
        turn: str,
        text: str = "hi",
        *,
        user: str = "u",
        offset: int | None = None,
        reply_to: str | None = None,
        **fields: Any,
    ) -> int:
        """A turn record comes; its offset."""
        offset = self._next(offset)
        content = Turn(turn=turn, text=text, user=user, **fields)
        record = TurnRecord(
            "s",
            content,
            turn,
            Position(stream="agent.turns", partition=0, offset=offset, timestamp_ms=0),
            reply_to,
            None,
        )
        mail = fx.Mail(record, digest(content), content.deadline_ms or self.now_ms + 60_000)
        trigger = fx.Trigger(FakeRecord(offset), reply_to=reply_to, mark=self.marked.append)
        self.do(self.session.arrived(mail, trigger, self.now_ms))
        return offset

    def control(self, control: Control, offset: int | None = None, *, reply_to: str | None = None) -> int:
        """A control record comes; its offset (they count on from 1000 so as not to be mixed up with turns)."""
        offset = self._next(offset)
        position = Position(stream="agent.control", partition=0, offset=offset, timestamp_ms=0)
        trigger = fx.Trigger(FakeRecord(offset, topic="agent.control"), reply_to=reply_to, mark=self.marked.append)
        self.do(self.session.commanded(fx.Op(ControlRecord("s", control, position, None), trigger), self.now_ms))
        return offset

    def finish(self, text: str = "hi", outcome: str = "completed", **fields: Any) -> None:
        """The agent that runs here ends."""
        turn = self.session.running
        assert turn is not None, "nothing runs"
        items = (said(item=f"{turn}~1", turn=turn, role="assistant", text=text, at_ms=self.now_ms),)
        result = Result(outcome, text=text, messages=items, history=items, **fields)  # type: ignore[arg-type]
        self.do(self.session.ended(result, self.now_ms))

    def step(self, kind: str, *, text: str = "", result: Any = None) -> None:
        """The agent that runs here makes a step."""
        turn, attempt = self.started[-1]
        number = len([entry for entry in self.log.entries if entry.k == "step"])
        made = Step(
            at_ms=self.now_ms, turn=turn, attempt=attempt, step=number, kind=kind, name=kind, digest="", text=text,
            result=result,
        )  # fmt: skip
        self.do(self.session.step(made, self.now_ms))

    def intend(self, call: str) -> None:
        """The agent that runs here is about to call a tool."""
        turn, attempt = self.started[-1]
        number = len([entry for entry in self.log.entries if entry.k == "step"])
        intent = Intent(
            at_ms=self.now_ms, turn=turn, attempt=attempt, step=number, name="pay", digest="", call=call, key="k"
        )
        self.do(self.session.step(intent, self.now_ms))

    def suspend(self, call: str, *, text: str = "", expires_ms: int = 3_600_000) -> None:
        """The agent that runs here needs a decision."""
        turn, attempt = self.started[-1]
        frame = f'{{"type":"approval_requested","turn":"{turn}","call":"{call}","seq":7}}'
        asked = Suspend(
            at_ms=self.now_ms, turn=turn, attempt=attempt, call=call, deadline_ms=self.now_ms + expires_ms, text=text,
            frames=(frame,),
        )  # fmt: skip
        self.do(self.session.step(asked, self.now_ms))

    def wake(self, turn: str, call: str) -> None:
        """The timer is found due."""
        timer = self.log.timers[turn, call]
        self.now_ms = max(self.now_ms, timer.due_ms)
        trigger = fx.Trigger(FakeRecord(-1, topic="timers"), reply_to=None, mark=lambda _: None)
        trigger.record.key = (turn, call)
        self.do(self.session.woken(timer, trigger, self.now_ms))

    def _next(self, offset: int | None) -> int:
        if offset is None:
            offset, self.offset = self.offset, self.offset + 1
        return offset

    # carrying out

    def do(self, orders: list[fx.Effect]) -> None:
        for order in orders:
            self._do(order)

    def _do(self, order: fx.Effect) -> None:
        match order:
            case fx.Acknowledge(trigger) if trigger.record.topic == "timers":
                self.log.timers.pop(trigger.record.key, None)
            case fx.Acknowledge(trigger):
                self.marked.append(trigger.record.offset)
            case fx.Start():
                state = self.session.state
                assert state is not None and state.open is not None
                self.started.append((state.open.turn, state.open.attempt))
            case fx.Stop(by):
                self.stopped.append(by)
            case fx.Steer(note):
                self.steered.append(note.op)
            case fx.Abandon():
                self.abandoned += 1
            case fx.Request(turn, call, _, to):
                self.to[call] = to
                self._request(turn, call)
            case fx.Decided(note):
                self.decided.append((note.kind, str(note.by)))
            case fx.Publish(turn, frame, to, fault):
                self.to[turn] = to
                self.faults.extend([fault] if fault is not None else [])
                self._publish(turn, frame)
            case fx.Republish(turn, _):
                self._publish(turn, self._frame_of(turn))
            case fx.Reply(ack, trigger):
                self.acks.append((ack.op, ack.state))
                self.do(self.session.replied(trigger, self.now_ms))
            case fx.Refuse(trigger, code, _):
                self.refused.append((trigger.record.offset, code.value))
                self.marked.append(trigger.record.offset)
            case fx.WantSlot():
                if self.slots:
                    self.slots -= 1
                    self.do(self.session.granted(self.now_ms))
            case fx.FreeSlot():
                self.slots += 1
            case fx.Show():
                self.shown += 1
            case _:
                self.questions.append(order)
                if self.auto:
                    self.answer()

    def answer(self) -> str:
        """Answer the open question from the journal as it is now."""
        question = self.questions.pop(0)
        session, now_ms = self.session, self.now_ms
        match question:
            case fx.Load():
                self.do(session.loaded(self.log.state(), now_ms))
            case fx.Look():
                self.do(session.looked(self.log.state(), now_ms))
            case fx.Prove():
                if self.member:
                    self.do(session.proved(now_ms))
                else:
                    self.given_up = True
            case fx.Arm(turn, call, due_ms):
                self.log.timers.setdefault((turn, call), Timer("default/s", turn, call, due_ms))
                self.do(session.armed(now_ms))
            case fx.Find(turn):
                self.do(session.found(turn, self.log.known(turn), now_ms))
            case fx.Wipe(version):
                self.log.wiped = version
                self.do(session.wiped(now_ms))
            case fx.Append():
                return self._append(question)
        return ""

    def _append(self, order: fx.Append) -> str:
        verdict = self.log.insert(order)
        if verdict == "applied":
            self.do(self.session.applied(self.now_ms))
        elif verdict == "known":
            self.do(self.session.known(self.now_ms))
        elif self.member:
            self.do(self.session.collided(self.log.state(), self.now_ms))
        else:
            self.given_up = True
        return verdict

    def _publish(self, turn: str, frame: str) -> None:
        self.published.append((turn, frame))
        if self.auto:
            self.do(self.session.published(turn, self.now_ms))
        else:
            self.unacked.append(turn)

    def _request(self, turn: str, call: str) -> None:
        self.requests.append((turn, call))
        if self.auto:
            self.do(self.session.requested(turn, call, self.now_ms))
        else:
            self.unasked.append((turn, call))

    def acknowledge(self) -> None:
        """The broker acknowledges what was published."""
        calls, self.unasked = self.unasked, []
        for turn, call in calls:
            self.do(self.session.requested(turn, call, self.now_ms))
        turns, self.unacked = self.unacked, []
        for turn in turns:
            self.do(self.session.published(turn, self.now_ms))

    def _frame_of(self, turn: str) -> str:
        for entry in self.log.entries:
            for frame in getattr(entry, "frames", ()) if entry.k != "suspend" else ():
                if f'"turn":"{turn}"' in frame:
                    return str(frame)
        raise AssertionError(f"{turn} has no terminal frame in the journal")

    def outcomes(self) -> dict[str, str]:
        """Turn -> type of its terminal frame, as published; AssertionError where two differ."""
        frames: dict[str, str] = {}
        for turn, frame in self.published:
            assert frames.setdefault(turn, frame) == frame, f"two terminal frames of {turn}"
        kinds = ("completed", "failed", "cancelled")
        return {turn: next(k for k in kinds if f'"type":"{k}"' in frame) for turn, frame in frames.items()}


def unknown_agent(name: str | None) -> Terms:
    """A registry that knows nothing."""
    raise Refusal(Code.AGENT_UNKNOWN, f"no agent {name!r}")
