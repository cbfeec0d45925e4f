"""Turns that come in: known ones join what is there, new ones wait or are settled as the policy says. No I/O."""

from __future__ import annotations

from journal.state import State
from schemas.codes import Code
from schemas.entries import ControlNote
from schemas.frames import CancelledBy
from workers import endings
from workers.effects import (
    Append,
    Effect,
    Look,
    Mail,
    Refuse,
    Stop,
    Trigger,
)
from workers.holdings import Holdings
from workers.line import Line
from workers.parked import parked_mail

STEERS_LIMIT = 32
PARKED_LIMIT = 32
UNPUBLISHED_LIMIT = 12


class Admission(Holdings):
    """The mailbox's decisions."""

    __slots__ = ()

    def _simply_waits(self, mail: Mail) -> bool:
        """Whether nothing but its place in the mailbox is to be found for a turn: new, of this session's user, while
        another runs. Most are so under load; the rest takes the longer way, and in order."""
        state, turn = self.state, mail.id
        if self.running is None or state is None or self.inbox or turn in self._held or turn in state.ended_turns:
            return False
        opened = state.opened
        if opened is None or opened.user != mail.user or turn == self.running:
            return False
        return mail.policy(opened) == "enqueue" and not (state.aside and state.unended(turn) is not None)

    def _admit(self, mail: Mail, trigger: Trigger, state: State, out: list[Effect], now_ms: int) -> None:
        """Identity is the turn id: known turns join what is there, new ones wait."""
        turn = mail.id
        seen = self._digest_of(turn, state)
        if seen != mail.digest and state.opened is not None and state.opened.user != mail.user:
            self._deny_turn(mail, trigger)
        elif seen is None:
            self._wait(mail, trigger, state, out)
        elif seen and seen != mail.digest:
            self._refusals.append((mail, trigger, Code.CONFLICT, "this turn id is known with other content"))
        elif (
            state.unended(turn) is not None
            or any(m.id == turn for m in self.mail)
            or self._joined(turn, state) is not None
            or state.parked_turn(turn) is not None
        ):
            self._hold(turn, trigger)
        else:
            self._hold(turn, trigger)
            if state.ended(turn) is not None:
                self._republish(turn, out, frozenset((trigger.reply_to,)))

    def _deny_turn(self, mail: Mail, trigger: Trigger) -> None:
        """Another user's session answers as a missing one, after a look."""
        self._fresh = False
        self._refusals.append((mail, trigger, Code.NOT_FOUND, "there is no such session for this user"))

    def _turn_away(self, mail: Mail) -> None:
        """The same of a turn that waited here, with every record of it."""
        for trigger in self._held.pop(mail.id, ()):
            self._deny_turn(mail, trigger)

    def _digest_of(self, turn: str, state: State) -> str | None:
        """The digest of a turn that runs, waits, is being settled or is over here; None: not seen."""
        now = state.unended(turn)
        if now is not None:
            return now.digest
        if turn in self._held:
            for mail in self.mail:
                if mail.id == turn:
                    return mail.digest
            for item in self._settles:
                if item[0].id == turn:
                    return item[0].digest
        note = self._joined(turn, state) or state.parked_turn(turn)
        if note is not None:
            return note.digest
        ended = state.ended(turn)
        return ended.digest if ended is not None else None

    def _joined(self, turn: str, state: State) -> ControlNote | None:
        """What introduced `turn`, where it steers one that is not over."""
        for now in state.begun:
            for note in now.joined:
                if note.turn == turn and note.input is not None:
                    return note
        return None

    def _wait(self, mail: Mail, trigger: Trigger, state: State, out: list[Effect]) -> None:
        policy = mail.policy(state.opened)
        if state.opened is None and self.mail and self.mail[0].user != mail.user:
            policy = "enqueue"  # the first turn opens the session for its user; a stranger's ends nothing
        busy = self.running is not None or state.open is not None or bool(self.mail) or bool(state.parked)
        busy = busy or state.quarantine is not None or self._full(state)
        busy = busy or any(turn.awaits is None for turn in state.aside)
        self._hold(mail.id, trigger)
        if state.ahead and state.cancelled_ahead(mail.id, mail.user) is not None:
            self._settles.append((mail, "user", "", None))
            return
        if busy and policy == "reject":
            self._settles.append((mail, Code.BUSY, "a turn runs or waits and the policy is reject", None))
            return
        if busy and policy in {"interrupt", "rollback"}:
            self._interrupt("interrupt" if policy == "interrupt" else "rollback", mail.user, state, out)
        if policy == "steer" and self._may_join(mail, state):
            self._joins.append(mail)
        self.mail.append(mail)

    def _may_join(self, mail: Mail, state: State) -> bool:
        """Whether there is a turn to join, with room, and nothing about this one asks for a run of its own."""
        now, turn = state.open, mail.record.turn
        if now is None or not self._steerable(state) or len(now.joined) + len(self._joins) >= STEERS_LIMIT:
            return False
        agent = state.opened.agent if state.opened is not None else None
        return turn.agent in {None, agent} and not (turn.history or turn.options or turn.tools)

    def _steerable(self, state: State) -> bool:
        """Whether the turn that runs here still takes what its user says."""
        if self.running is None or self._sealed or self._result is not None or self._stopping is not None:
            return False
        return state.open is not None

    def _join_next(self, state: State, out: list[Effect], now_ms: int) -> bool:
        """The CONTROL that introduces a waiting turn as one that steers."""
        mail = self._joins[0]
        if not self._steerable(state) or state.ended(mail.id) is not None:
            self._joins.clear()  # their places in the mailbox say what becomes of them
            return True
        return self._ask(Append(state.version + 1, endings.joins(self.key, mail, now_ms=now_ms)), out)

    def _interrupt(self, by: CancelledBy, user: str, state: State, out: list[Effect]) -> None:
        """End the open turn, whether it runs here, nowhere or is suspended, and every earlier waiting one, in order. A
        stranger's that came before the session was opened is refused when its place in the mailbox comes."""
        if state.open is not None and self._result is None and self._stopping is None:
            self._stopping = by
            if self.running is not None:
                out.append(Stop(by))
        settling = {item[0].id for item in self._settles}
        parked = (parked_mail(self.key, parked) for parked in state.parked if parked.turn not in settling)
        self._settles.extend((mail, by, "", None) for mail in (*parked, *self.mail) if mail.user == user)
        self.mail = Line(mail for mail in self.mail if mail.user != user)
        self._joins.clear()

    def _strangers_out(self, user: str) -> None:
        """The session is `user`'s now: what somebody else sent before it was waits for nothing here."""
        for mail in [mail for mail in self.mail if mail.user != user]:
            self.mail.remove(mail)
            self._turn_away(mail)

    def _refuse_next(self, state: State, out: list[Effect]) -> bool:
        """ "No such session" is said only of a state that was read after the record came."""
        mail, trigger, code, text = self._refusals[0]
        if code is Code.NOT_FOUND and not self._fresh:
            return self._ask(Look(), out)
        self._refusals.popleft()
        if code is Code.NOT_FOUND and (state.opened is None or state.opened.user == mail.user):
            self.inbox.append((mail, trigger))
        else:
            out.append(Refuse(trigger, code, text))
        return True

    def _reject(self, mail: Mail, code: Code, text: str, out: list[Effect]) -> bool:
        """The head of the mailbox may not become a turn of this session: nothing goes into the journal."""
        self.mail.popleft()
        out.extend(Refuse(trigger, code, text) for trigger in self._held.pop(mail.id, ()))
        return True

    def _settle_next(self, state: State, out: list[Effect], now_ms: int) -> bool:
        mail, verdict, text, op = self._settles[0]
        if len(self._publishing) >= UNPUBLISHED_LIMIT and not (state.parked and state.parked_turn(mail.id)):
            return False  # the state remembers the last turns that are over: none is forgotten before its frame is out
        if state.ended(mail.id) is not None:
            self._settles.popleft()
            self._over_before(mail.id, op, out, now_ms)
            return True
        if state.opened is not None and state.opened.user != mail.user:
            self._settles.popleft()
            self._ops.extendleft((op,) if op is not None else ())
            self._turn_away(mail)
            return True
        op_id = op.record.control.op if op is not None else None
        known = bool(state.parked) and state.parked_turn(mail.id) is not None
        if state.ahead and state.cancelled_ahead(mail.id, mail.user) is not None:
            verdict = "user"  # it was answered `held`: so it holds, whatever else would have ended the turn
        if isinstance(verdict, Code):
            entry = endings.settle_failed(self.key, mail, verdict, text, now_ms=now_ms, known=known)
        else:
            entry = endings.settle_cancelled(self.key, mail, verdict, now_ms=now_ms, op=op_id, known=known)
        return self._ask(Append(state.version + 1, entry), out)
