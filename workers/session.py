"""One session's decisions in the worker that owns it: what happened in, effects out. No I/O, no clock, no tasks.

Every public method but the properties takes one fact and gives the effects that follow, in order. Facts that answer a
question: `loaded looked proved found armed applied collided known wiped`. The rest come when they come.
"""

from __future__ import annotations

from journal.fold import fold
from journal.state import State
from schemas.entries import (
    Claim,
    Close,
    ControlNote,
    Entry,
    Finish,
    Intent,
    Open,
    Park,
    Release,
    Settle,
    Step,
    Suspend,
)
from workers import endings
from workers.effects import (
    Abandon,
    Append,
    Effect,
    Load,
    Look,
    Mail,
    Op,
    Prove,
    Steer,
    Trigger,
    Wipe,
)
from workers.elsewhere import Elsewhere
from workers.holdings import AHEAD_LIMIT
from workers.result import Result


class Session(Elsewhere):
    """See the module. Facts in, effects out; `Holdings` says what may be read from outside."""

    __slots__ = ()

    @property
    def joining(self) -> bool:
        """Something that its user says is about to join the running turn."""
        asked = self.asked
        if isinstance(asked, Append) and isinstance(asked.entry, ControlNote) and asked.entry.kind == "steer":
            return True
        return bool(self._joins)

    def release_entry(self, now_ms: int) -> Append | None:
        """The RELEASE of the attempt that runs here, where it may be appended (nothing else is in flight)."""
        state = self.state
        if self.running is None or state is None or state.open is None or isinstance(self.asked, Append):
            return None
        entry = Release(at_ms=now_ms, turn=state.open.turn, attempt=state.open.attempt)
        return Append(state.version + 1, entry)

    def arrived(self, mail: Mail, trigger: Trigger, now_ms: int) -> list[Effect]:
        """A turn record came."""
        trigger.waits = 1
        if self._simply_waits(mail):
            self._held[mail.id] = [trigger]
            self.mail.append(mail)
        else:
            self.inbox.append((mail, trigger))
        return self._advance([], now_ms) if self.asked is None else []

    def commanded(self, op: Op, now_ms: int) -> list[Effect]:
        """A control record came. It overtakes waiting turns."""
        self._fresh = False
        self._late = self.asked is not None
        self._ops.append(op)
        return self._advance([], now_ms)

    def granted(self, now_ms: int) -> list[Effect]:
        """A slot is free for this session."""
        self._slot, self._wants = True, False
        return self._advance([], now_ms)

    def seal(self) -> bool:
        """The running agent is done: from now on nothing joins its turn. False: something is about to join, and the
        agent hears of it (`Steer`) first."""
        self._sealed = not self.joining
        return self._sealed

    def step(self, step: Step | Intent | Suspend, now_ms: int) -> list[Effect]:
        """The running agent made a step, is about to, or needs a decision; it waits for the APPLIED of its Append."""
        self._steps.append(step)
        return self._advance([], now_ms)

    def ended(self, result: Result, now_ms: int) -> list[Effect]:
        """The running agent's attempt is over."""
        self._result = result
        self._steps.clear()
        return self._advance([], now_ms)

    def published(self, turn: str, now_ms: int) -> list[Effect]:
        """One publication of the terminal frame of `turn` was acknowledged by the broker."""
        out: list[Effect] = []
        left = self._publishing.get(turn, 1) - 1
        if left > 0:
            self._publishing[turn] = left
            return out
        self._publishing.pop(turn, None)
        self._repeats.discard(turn)
        self._acked[turn] = None
        if len(self._acked) > AHEAD_LIMIT:
            self._acked.pop(next(iter(self._acked)))
        for trigger in self._held.pop(turn, ()):
            self._release(trigger, out)
        self._unchain((turn,), out)
        return self._advance(out, now_ms)

    def replied(self, trigger: Trigger, now_ms: int) -> list[Effect]:
        """The ack of a control op was acknowledged by the broker."""
        out: list[Effect] = []
        self._release(trigger, out)
        return self._advance(out, now_ms)

    def loaded(self, state: State, now_ms: int) -> list[Effect]:
        """Answers `Load`."""
        self.asked = None
        self._see(state)
        self._fresh, self._late = not self._late, False
        self._swept = False
        return self._advance([], now_ms)

    def looked(self, state: State, now_ms: int) -> list[Effect]:
        """Answers `Look`: the state is read after the trigger was received."""
        self.asked = None
        out: list[Effect] = []
        if self.state is not None and state.version != self.state.version:
            self._overtaken(state, out, now_ms)
        self._fresh, self._late = not self._late, False
        return self._advance(out, now_ms)

    def proved(self, now_ms: int) -> list[Effect]:
        """Answers `Prove`."""
        self.asked = None
        self._proof = True
        return self._advance([], now_ms)

    def found(self, turn: str, known: bool, now_ms: int) -> list[Effect]:
        """Answers `Find`. What is known and not in a state that was read after that is over and forgotten."""
        self.asked = None
        out: list[Effect] = []
        if not known:
            self._found = turn
        elif self._indexed == turn:
            self._too_late(self._ops.popleft(), turn, out, now_ms)
        else:
            self._indexed = turn
            self._ask(Look(), out)
        return self._advance(out, now_ms)

    def wiped(self, now_ms: int) -> list[Effect]:
        """Answers `Wipe`."""
        self.asked = None
        assert self.state is not None
        self.state = self.state._replace(wiped=True)
        return self._advance([], now_ms)

    def _see(self, state: State) -> None:
        """Whoever watched an earlier life of the session, which may have been another user's, watches no more."""
        before = self.state.opened if self.state is not None else None
        if state.opened is not None and (before is None or before.user != state.opened.user):
            self._watchers.clear()
        self.state = state

    def applied(self, now_ms: int) -> list[Effect]:
        """Answers `Append`: the entry is in the journal."""
        asked = self._take_append()
        assert self.state is not None
        was = self.state
        self._see(fold(was, asked.version, asked.entry))
        self._proof = False
        out: list[Effect] = []
        self._after(asked.entry, was, out, now_ms)
        return self._advance(out, now_ms)

    def collided(self, state: State, now_ms: int) -> list[Effect]:
        """Answers `Append`: somebody else wrote that version. `state` is read on, membership is proved."""
        self._take_append()
        out: list[Effect] = []
        self._overtaken(state, out, now_ms)
        self._fresh = self._proof = False
        self._gave_up = None
        return self._advance(out, now_ms)

    def known(self, now_ms: int) -> list[Effect]:
        """Answers `Append`: nothing collided; the turn that the entry introduces is known to the journal."""
        asked = self._take_append()
        out: list[Effect] = []
        entry = asked.entry
        if isinstance(entry, Finish):
            self._merge = False
        elif isinstance(entry, ControlNote):
            mail = self._joins.popleft()
            self.mail.remove(mail)
            self._republish(mail.id, out)
        elif isinstance(entry, Settle):
            mail, _, _, op = self._settles.popleft()
            self._over_before(mail.id, op, out, now_ms)
        else:
            self._republish(self.mail.popleft().id, out)
        return self._advance(out, now_ms)

    def _advance(self, out: list[Effect], now_ms: int) -> list[Effect]:
        while self.asked is None and self._next(out, now_ms):
            pass
        return out

    def _next(self, out: list[Effect], now_ms: int) -> bool:
        """One decision; whether another one can follow at once."""
        state = self.state
        if state is None:
            return self._ask(Load(), out) if self.inbox or self._ops or self._wakes else False
        if not state.wiped and state.closed is not None:
            return self._ask(Wipe(state.closed.version), out)
        if self.inbox:
            self._admit(*self.inbox.popleft(), state, out, now_ms)
            return True
        if self._refusals:
            return self._refuse_next(state, out)
        if self._closers and not self._publishing:
            return self._closed_for_good(out)
        if self.running is not None:
            return self._next_running(state, out, now_ms)
        if self._repeats:
            return False  # a frame that a dead owner left unpublished comes before anything later of the session
        if state.open is not None and self._stopping is not None:
            return self._end_open(state, out, now_ms) if self._all_shown(state, out) else False
        if self._settles:
            return self._settle_next(state, out, now_ms)
        if self._ops:
            return self._next_op(state, out, now_ms)
        if self._wakes:
            return self._wake(state, out, now_ms) if self._all_shown(state, out) else False
        return self._next_turn(state, out, now_ms)

    def _next_turn(self, state: State, out: list[Effect], now_ms: int) -> bool:
        """Nothing runs here: what is open, parked or waits, in this order."""
        if state.aside and self._ask_about_aside(state, out):
            return True
        turn = state.open
        if turn is not None:
            if not self._all_shown(state, out):
                return False
            asked = turn.awaits
            if asked is not None:
                return self._wait_for_decision(turn, asked, state, out, now_ms)
            return self._take_over(turn, state, out, now_ms)
        if state.quarantine is not None:
            shown = self._all_shown(state, out)
            return self._wait_in_quarantine(state.quarantine, state, out, now_ms) if shown else False
        decided = next((turn for turn in state.aside if turn.awaits is None), None)
        if decided is not None:
            return self._take_over(decided, state, out, now_ms) if self._all_shown(state, out) else False
        return self._next_new(state, out, now_ms)

    def _next_new(self, state: State, out: list[Effect], now_ms: int) -> bool:
        if self._full(state):
            return self._wait_for_room(state, out, now_ms) if self._all_shown(state, out) else False
        if state.parked:
            return self._begin_parked(state.parked[0], state, out, now_ms) if self._all_shown(state, out) else False
        if self.mail:
            return self._begin(self.mail[0], state, out, now_ms) if self._held_shown(state, out) else False
        self._give_slot_back(out)
        return False

    def _next_running(self, state: State, out: list[Effect], now_ms: int) -> bool:
        if state.aside:
            self._ask_about_aside(state, out)
        if self._steps:
            step = self._steps[0]
            if isinstance(step, Suspend):
                if self._arm_first(step.turn, step.call, step.deadline_ms, out):
                    return False
                step = self._stands_aside(step, state)
            return self._ask(Append(state.version + 1, step), out)
        if self._result is not None:
            return self._finish(self._result, state, out, now_ms)
        if self._joins:
            return self._join_next(state, out, now_ms)
        if self._settles:
            return self._settle_next(state, out, now_ms)
        if self._ops:
            return self._next_op(state, out, now_ms)
        return self._wake(state, out, now_ms) if self._wakes else False

    def _end_open(self, state: State, out: list[Effect], now_ms: int) -> bool:
        """A turn that came with a policy ends the open one, which runs nowhere here."""
        if not self._proof:
            return self._ask(Prove(), out)
        result = Result(outcome="cancelled", by=self._stopping, unrun=True)
        entry = endings.finish(self.key, state, result, now_ms=now_ms, op=None, claim=None, prices=self._rules.prices)
        return self._ask(Append(state.version + 1, entry), out)

    def _next_op(self, state: State, out: list[Effect], now_ms: int) -> bool:
        return self._obey(self._ops[0], state, out, now_ms) if self._all_shown(state, out) else False

    def _all_shown(self, state: State, out: list[Effect]) -> bool:
        """Whether the frames that a dead owner left are out. They come again with their records, in order; a command
        and a take-over wait for no record, so before the first one those frames are published."""
        if not self._swept:
            self._swept = True
            self._republish_unseen(state, out)
        return not self._repeats

    def _held_shown(self, state: State, out: list[Effect]) -> bool:
        """The same before a turn begins, whose own frames come with its record: only where turns are over whose records
        were marked before, for the journal held them."""
        if self._swept or not any(ended.held for ended in state.ended_turns.values()):
            return True
        return self._all_shown(state, out)

    def _after(self, entry: Entry, was: State, out: list[Effect], now_ms: int) -> None:
        if isinstance(entry, Finish):
            self._after_finish(entry, was.unended(entry.turn), out, now_ms)
        elif isinstance(entry, Claim):
            self._after_claim(entry, out)
        elif isinstance(entry, Step | Intent | Suspend):
            if self._steps:
                self._steps.popleft()
            if isinstance(entry, Suspend):
                self._after_suspend(out)
        elif isinstance(entry, Park):
            self._after_park(entry)
        elif isinstance(entry, Settle):
            mail, _, _, op = self._settles.popleft()
            self._publish(entry.turn, entry.frames[0], out, None, mail.record.reply_to)
            if op is not None:
                self._answer(op, "applied", entry.turn, out, now_ms)
        elif isinstance(entry, Open):
            self._reply(self._ops.popleft(), "applied", None, out, now_ms)
        elif isinstance(entry, ControlNote):
            self._after_note(entry, out, now_ms)
        elif isinstance(entry, Close):
            self._after_close(entry, was, out, now_ms)

    def _after_note(self, entry: ControlNote, out: list[Effect], now_ms: int) -> None:
        if entry.call is not None or entry.kind == "release":
            assert self.state is not None
            self._after_decision(entry, self.state, out, now_ms)
            return
        if entry.kind != "steer":
            self._reply(self._ops.popleft(), "held", entry.turn, out, now_ms)
            return
        if entry.input is None:
            self._answer(self._ops.popleft(), "applied", entry.turn, out, now_ms)
        else:
            self.mail.remove(self._joins.popleft())
        out.append(Steer(entry))

    def _after_close(self, entry: Close, was: State, out: list[Effect], now_ms: int) -> None:
        ran = self.running
        if ran is not None:
            out.append(Abandon())
        self.running, self._result, self._stopping = None, None, None
        self._steps.clear()
        self._give_slot_back(out)
        askers = _askers(was) if entry.ended else {}
        for turn, frame in zip(entry.ended, entry.frames, strict=True):
            self._publish(turn, frame, out, None, askers.get(turn))
        for op in self._cancels:  # of the turn that ran: the CLOSE cancelled it
            self._answer(op, "applied", ran or entry.ended[0], out, now_ms)
        self._cancels.clear()
        if entry.reason == "delete":
            self._settles.extend((mail, "delete", "", None) for mail in self.mail)
            self.mail.clear()
        if entry.op is not None and self._ops and self._ops[0].record.control.op == entry.op:
            self._closers.append(self._ops.popleft())


def _askers(state: State) -> dict[str, str | None]:
    """For whom the turns that a CLOSE ends were published."""
    askers: dict[str, str | None] = {parked.turn: parked.reply_to for parked in state.parked}
    for now in state.begun:
        askers[now.turn] = now.reply_to
        askers.update((note.turn, note.reply_to) for note in now.joined)
    return askers
