"""Suspended turns: the agent asks, somebody decides or the time runs out. No I/O.

Whatever brings a suspended turn back (a decision, a timer) is acknowledged only when that turn, and all that was parked
behind it, is over and acknowledged, or suspended again with a timer of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from journal.port import Timer
from journal.state import OpenTurn, Quarantined, State
from schemas.codes import Code
from schemas.control import ApproveControl, ReleaseControl
from schemas.entries import ControlNote, Suspend
from schemas.errors import Refusal
from schemas.frames import AckState
from schemas.ids import split_key
from workers.admission import Admission
from workers.effects import (
    Abandon,
    Append,
    Arm,
    Decided,
    Effect,
    Look,
    Op,
    Prove,
    Request,
    Trigger,
    Wake,
)
from workers.holdings import Fits
from workers.parked import parked_mail

DEADLINE = "deadline"
LATE = "the deadline passed while the turn waited"


class Suspended(Admission):
    """Decisions about what a turn waits for, and about timers."""

    __slots__ = ()

    def woken(self, timer: Timer, trigger: Trigger, now_ms: int) -> list[Effect]:
        """A timer is due. Each is handed over once until its trigger is marked."""
        trigger.waits = 0
        self._fresh = False
        self._late = self.asked is not None
        self._wakes.append(Wake(timer, trigger))
        return self._advance([], now_ms)

    def armed(self, now_ms: int) -> list[Effect]:
        """Answers `Arm`."""
        asked, self.asked = self.asked, None
        assert isinstance(asked, Arm)
        self._armed = (asked.turn, asked.call)
        return self._advance([], now_ms)

    def requested(self, turn: str, call: str, now_ms: int) -> list[Effect]:
        """What asks for a decision on `call` of `turn` was acknowledged by the broker."""
        if (turn, call) in self._requesting:
            self._requesting -= {(turn, call)}
            begun = self.state.begun if self.state is not None else ()
            awaited = {(item.turn, item.awaits.call) for item in begun if item.awaits}
            self._requested = (self._requested & awaited) | {(turn, call)}
        return self._advance([], now_ms)

    def asks(self, call: str, fits: Fits) -> bool:
        """A call of the running turn asks its user, and waits. False: the turn is about to end."""
        if self.running is None or self._stopping is not None or self.ending:
            return False
        self._in_call[call] = fits
        return True

    def asks_no_more(self, call: str) -> bool:
        """It waits no longer. False: a decision is being written."""
        note = self.asked.entry if isinstance(self.asked, Append) else None
        if isinstance(note, ControlNote) and (note.turn, note.call) == (self.running, call):
            return False
        if call in self._in_call:
            self._in_call[call] = None
        return True

    def _advance(self, out: list[Effect], now_ms: int) -> list[Effect]:
        raise NotImplementedError

    def _arm_first(self, turn: str, call: str, due_ms: int, out: list[Effect]) -> bool:
        """Whether the timer that an entry needs is still to be armed: then that is asked."""
        if self._armed == (turn, call):
            return False
        self._ask(Arm(turn, call, due_ms), out)
        return True

    def _stands_aside(self, step: Suspend, state: State) -> Suspend:
        """The SUSPEND as it is written: where another turn stands aside already, this one must, for nothing begins
        behind a turn that is open."""
        if not state.aside:
            try:
                aside = self._rules.terms(state.opened.agent if state.opened is not None else None).stands_aside
            except Refusal:
                aside = False
            if not aside:
                return step
        return step.model_copy(update={"aside": True})

    def _asked_about(self, turn: OpenTurn, asked: Suspend, out: list[Effect]) -> bool:
        """Whether the user of a suspended turn was asked; where not, that happens."""
        place = (turn.turn, asked.call)
        if place in self._requested:
            return True
        if place not in self._requesting:
            self._requesting |= {place}
            out.append(Request(turn.turn, asked.call, asked.frames[0], self.destinations(turn.turn)))
        return False

    def _ask_about_aside(self, state: State, out: list[Effect]) -> bool:
        """Turns that stand aside: their users are asked; then the journal holds them, and a decision or a timer brings
        each of them back. What is here of it needs no trigger. True: such a timer is due."""
        for turn in state.aside:
            asked = turn.awaits
            if asked is None or turn.turn == self.running:
                continue
            if self._chains:
                self._wake_again(turn.turn, asked.call)
            if self._asked_about(turn, asked, out):
                self._leave((turn.turn, *turn.steering), out)
        return bool(self._wakes)

    def _leave(self, turns: Sequence[str], out: list[Effect]) -> None:
        """The journal holds these turns: nothing of theirs needs to come again."""
        for turn in turns:
            for trigger in self._held.pop(turn, ()):
                self._release(trigger, out)
        self._unchain(turns, out)

    def _after_suspend(self, out: list[Effect]) -> None:
        """The agent's task ends without a result. One that is being stopped has a result to come."""
        if self._stopping is not None or self._result is not None:
            return
        out.append(Abandon())
        self.running = None
        self._steps.clear()
        self._joins.clear()
        self._give_slot_back(out)

    def _approve(self, op: Op, state: State, out: list[Effect], now_ms: int) -> bool:
        """A decision counts once, on the call that is awaited; "no such call" is said after a look."""
        control = op.record.control
        assert isinstance(control, ApproveControl)
        if self._foreign(op, state):
            return self._deny(op, state, "unknown", out, now_ms)
        if state.ended(control.turn) is not None:
            return self._came_late(control.turn, state, out, now_ms)
        turn = state.unended(control.turn)
        asked = turn.awaits if turn is not None else None
        if asked is None or asked.call != control.call:
            known = turn is not None and turn.decided(control.call) is not None
            if known or self.running != control.turn or control.call not in self._in_call:
                return self._deny(op, state, "too_late" if known else "unknown", out, now_ms)
            fits = self._in_call[control.call]
            if fits is None or self._stopping is not None:
                return self._deny(op, state, "too_late", out, now_ms)
            if not fits(control):
                return self._deny(op, state, "refused", out, now_ms)
        return self._decide(control, state, out, now_ms)

    def _decide(self, control: ApproveControl, state: State, out: list[Effect], now_ms: int) -> bool:
        """The CONTROL of a decision."""
        given = {"arguments": control.arguments, "answer": control.answer, "note": control.note}
        note = ControlNote(
            at_ms=now_ms,
            op=control.op,
            kind="approve" if control.decision == "allow" else "deny",
            turn=control.turn,
            call=control.call,
            by=control.user,
            tenant=control.tenant,
            user=control.user,
            value={name: value for name, value in given.items() if value is not None} or None,
        )
        return self._ask(Append(state.version + 1, note), out)

    def _came_late(self, turn: str, state: State, out: list[Effect], now_ms: int) -> bool:
        """Its turn is over: answered with the outcome. Whose session it is nobody knows before it is opened, so then
        only after a look."""
        if state.opened is None and not self._fresh:
            return self._ask(Look(), out)
        self._too_late(self._ops.popleft(), turn, out, now_ms)
        return True

    def _deny(self, op: Op, state: State, answer: AckState, out: list[Effect], now_ms: int) -> bool:
        """Another user's object answers as a missing one; "missing" is said only of a state read after the record."""
        if not self._fresh:
            return self._ask(Look(), out)
        self._ops.popleft()
        self._reply(op, answer, getattr(op.record.control, "turn", None), out, now_ms)
        return True

    def _after_decision(self, entry: ControlNote, state: State, out: list[Effect], now_ms: int) -> None:
        """Somebody decided, or the time ran out: the turn, or the session, goes on; whoever decided sees how."""
        if entry.kind != "release":
            out.append(Decided(entry))
        if entry.by == DEADLINE:
            if self._wakes:
                wake = self._wakes.popleft()
                self._chain(wake.trigger, state, out, wake)
            return
        op = self._ops.popleft()
        if op.trigger.reply_to is not None and entry.kind != "release":
            self._watchers[op.trigger.reply_to] = None
        self._reply(op, "applied", entry.turn, out, now_ms)
        if entry.turn == self.running and entry.call in self._in_call:
            self._in_call[entry.call] = None  # the turn runs, and has triggers of its own
        else:
            self._chain(op.trigger, state, out)

    def _wake(self, state: State, out: list[Effect], now_ms: int) -> bool:
        """A timer is due: for a turn that awaits a decision, that is parked, that goes on, or that is over."""
        timer, _ = wake = self._wakes[0]
        turn, parked, held = state.unended(timer.turn), state.parked_turn(timer.turn), state.quarantine
        quarantine = held is not None and (held.turn, held.letter) == (timer.turn, timer.call)
        if held is not None and quarantine and state.open is None and not self._is_here(held.first, state):
            return self._released(held, None, f"~{held.letter}~{DEADLINE}", state, out, now_ms)
        if turn is not None:
            asked = turn.awaits
            if asked is not None and asked.call == timer.call and self.running != turn.turn:
                return self._deny_in_time(asked, turn, state, out, now_ms)
        elif parked is not None:
            settling = any(item[0].id == timer.turn for item in self._settles)
            if parked.deadline_ms <= now_ms and not settling:
                self._settles.append((parked_mail(self.key, parked), Code.DEADLINE_EXCEEDED, LATE, None))
        elif timer.turn not in state.ended_turns and not self._fresh:
            return self._ask(Look(), out)
        elif timer.turn not in self._acked and timer.turn not in self._publishing:
            self._republish(timer.turn, out)
        self._wakes.popleft()
        self._chain(wake.trigger, state, out, wake)
        return True

    def _is_here(self, turn: str | None, state: State) -> bool:
        """Whether it waits in the mailbox, or is parked."""
        return turn is not None and (state.parked_turn(turn) is not None or any(mail.id == turn for mail in self.mail))

    def _release_letter(self, op: Op, state: State, out: list[Effect], now_ms: int) -> bool:
        """An operator dealt with a dead letter; "there is no such quarantine" is said after a look."""
        control = op.record.control
        assert isinstance(control, ReleaseControl)
        held = state.quarantine
        if held is None or held.letter != control.letter or held.first is not None:
            return self._deny(op, state, "unknown", out, now_ms)
        return self._released(held, control.turn, control.op, state, out, now_ms)

    def _released(
        self, held: Quarantined, first: str | None, op: str, state: State, out: list[Effect], now_ms: int
    ) -> bool:
        """The CONTROL that ends a quarantine."""
        if not self._proof:
            return self._ask(Prove(), out)
        note = ControlNote(
            at_ms=now_ms,
            op=op,
            kind="release",
            turn=held.turn,
            letter=held.letter,
            first=first,
            by=DEADLINE if op.startswith("~") else None,
            tenant=split_key(self.key)[0],
            user=state.opened.user if state.opened is not None else "",
        )
        return self._ask(Append(state.version + 1, note), out)

    def _deny_in_time(self, asked: Suspend, turn: OpenTurn, state: State, out: list[Effect], now_ms: int) -> bool:
        """Nobody decided: the CONTROL that denies."""
        if not self._proof:
            return self._ask(Prove(), out)
        note = ControlNote(
            at_ms=now_ms,
            op=f"~{asked.call}~{DEADLINE}",
            kind="deny",
            turn=turn.turn,
            call=asked.call,
            by=DEADLINE,
            tenant=split_key(self.key)[0],
            user=turn.user,
        )
        return self._ask(Append(state.version + 1, note), out)
