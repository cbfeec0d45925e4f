"""Control ops, of every kind: each is answered once and is harmless when it comes again. No I/O."""

from __future__ import annotations

from journal.state import OpenTurn, State
from schemas.control import CancelControl, SteerControl
from schemas.entries import ControlNote, Open
from schemas.errors import Refusal
from schemas.frames import AckState
from workers import endings
from workers.admission import STEERS_LIMIT
from workers.effects import (
    Append,
    Effect,
    Find,
    Look,
    Op,
    Prove,
    Show,
    Stop,
)
from workers.holdings import AHEAD_LIMIT
from workers.line import Line
from workers.parked import parked_mail
from workers.result import Result
from workers.suspended import Suspended


class Commands(Suspended):
    """Decisions about control ops. They overtake waiting turns."""

    __slots__ = ()

    def _obey(self, op: Op, state: State, out: list[Effect], now_ms: int) -> bool:
        control = op.record.control
        seen = state.seen(control.op)
        if seen is not None and seen.user in {None, control.user} and not self._foreign(op, state):
            return self._obeyed_before(self._ops.popleft(), state, out, now_ms)
        kind = control.kind
        if kind == "cancel":
            return self._cancel(op, state, out, now_ms)
        if kind == "open":
            return self._open(op, state, out, now_ms)
        if kind in {"delete", "expire"}:
            return self._forget(op, state, out, now_ms)
        if kind == "watch":
            return self._watch(op, state, out, now_ms)
        if kind == "steer":
            return self._steer(op, state, out, now_ms)
        if kind == "release":
            return self._release_letter(op, state, out, now_ms)
        return self._approve(op, state, out, now_ms)

    def _obeyed_before(self, op: Op, state: State, out: list[Effect], now_ms: int) -> bool:
        """A second one appends nothing; it is a trigger of its turn."""
        seen = state.seen(op.record.control.op)
        turn = seen.turn if seen is not None else None
        if turn is not None and state.ended(turn) is not None:
            self._republish(turn, out, frozenset((op.trigger.reply_to,)))
            if op.record.control.kind not in {"delete", "expire"}:
                self._answer(op, "applied", turn, out, now_ms)
                if op.record.control.kind in {"approve", "cancel", "release"}:
                    self._chain(op.trigger, state, out)
                return True
        if op.record.control.kind in {"delete", "expire"}:
            for ended in state.over:
                if seen is not None and ended.version == seen.version:
                    self._republish(ended.turn, out)
            self._closers.append(op)
            return True
        held = turn is not None and any(item.turn == turn for item in state.ahead)
        self._reply(op, "held" if held else "applied", turn, out, now_ms)
        kind = op.record.control.kind
        if kind == "release" or (kind == "approve" and state.unended(turn) is not None):
            self._chain(op.trigger, state, out)
        return True

    def _cancel(self, op: Op, state: State, out: list[Effect], now_ms: int) -> bool:
        control = op.record.control
        assert isinstance(control, CancelControl)
        turn = control.turn
        if self._foreign(op, state):
            return self._deny(op, state, "held", out, now_ms)
        if state.ended(turn) is not None:
            return self._came_late(turn, state, out, now_ms)
        if self.running == turn:
            return self._cancel_running(out)
        if state.open is not None and state.open.turn == turn:
            if not self._proof:
                return self._ask(Prove(), out)
            return self._cancel_open(op, state, out, now_ms)
        aside = state.unended(turn) if state.aside else None
        if aside is not None:
            return self._cancel_aside(op, aside, state, out, now_ms)
        if self._joined(turn, state) is not None:
            self._answer(self._ops.popleft(), "too_late", turn, out, now_ms)
            return True
        mail = next((mail for mail in self.mail if mail.id == turn and mail.user == control.user), None)
        if mail is not None:
            self.mail.remove(mail)
            self._joins = Line(joining for joining in self._joins if joining is not mail)
            self._settles.append((mail, "user", "", self._ops.popleft()))
            return True
        parked = state.parked_turn(turn)
        if parked is not None:
            self._settles.append((parked_mail(self.key, parked), "user", "", self._ops.popleft()))
            return True
        if self._found != turn:
            return self._ask(Find(turn), out)
        self._found = None
        if len(state.ahead) >= AHEAD_LIMIT:
            self._reply(self._ops.popleft(), "refused", turn, out, now_ms)
            return True
        return self._write_down(control, None, state, out, now_ms)

    def _write_down(
        self, control: CancelControl | SteerControl, value: str | None, state: State, out: list[Effect], now_ms: int
    ) -> bool:
        """The CONTROL of a command to a turn."""
        note = ControlNote(
            at_ms=now_ms,
            op=control.op,
            kind=control.kind,
            turn=control.turn,
            tenant=control.tenant,
            user=control.user,
            value=value,
        )
        return self._ask(Append(state.version + 1, note), out)

    def _cancel_running(self, out: list[Effect]) -> bool:
        """The agent is stopped; the ack follows the FINISH, whichever outcome it holds."""
        if self._stopping is None:
            self._stopping = "user"
            self._joins.clear()
            out.append(Stop("user"))
        self._cancels.append(self._ops.popleft())
        return True

    def _cancel_open(self, op: Op, state: State, out: list[Effect], now_ms: int) -> bool:
        """The turn is open and runs nowhere: its outcome is cancelled."""
        result = Result(outcome="cancelled", by="user", unrun=True)
        entry = endings.finish(
            self.key, state, result, now_ms=now_ms, op=op.record.control.op, claim=None, prices=self._rules.prices
        )
        self._cancels.append(self._ops.popleft())
        return self._ask(Append(state.version + 1, entry), out)

    def _cancel_aside(self, op: Op, turn: OpenTurn, state: State, out: list[Effect], now_ms: int) -> bool:
        """The same of one that stands aside, whatever runs here: the op is answered when that is written."""
        if not self._proof:
            return self._ask(Prove(), out)
        result = Result(outcome="cancelled", by="user", unrun=True)
        entry = endings.finish(
            self.key,
            state,
            result,
            now_ms=now_ms,
            op=op.record.control.op,
            claim=None,
            prices=self._rules.prices,
            turn=turn,
        )
        return self._ask(Append(state.version + 1, entry), out)

    def _open(self, op: Op, state: State, out: list[Effect], now_ms: int) -> bool:
        control = op.record.control
        assert control.kind == "open"
        if state.opened is not None:
            if not self._fresh:
                return self._ask(Look(), out)
            verdict: AckState = "refused" if self._foreign(op, state) else "exists"
            self._reply(self._ops.popleft(), verdict, None, out, now_ms)
            return True
        try:
            terms = self._rules.terms(control.agent)
        except Refusal:
            self._reply(self._ops.popleft(), "refused", None, out, now_ms)
            return True
        entry = Open(
            at_ms=now_ms,
            user=control.user,
            agent=terms.agent,
            agent_version=self._rules.version_for(terms, self.key),
            if_busy=control.if_busy or "enqueue",
            op=control.op,
        )
        return self._ask(Append(state.version + 1, entry), out)

    def _watch(self, op: Op, state: State, out: list[Effect], now_ms: int) -> bool:
        if state.opened is None or self._foreign(op, state):
            return self._deny(op, state, "unknown", out, now_ms)
        if op.trigger.reply_to is not None:
            self._watchers[op.trigger.reply_to] = None
            if self.running is not None and self._result is None:
                out.append(Show())
        self._reply(self._ops.popleft(), "applied", getattr(op.record.control, "turn", None), out, now_ms)
        return True

    def _steer(self, op: Op, state: State, out: list[Effect], now_ms: int) -> bool:
        """A CONTROL on the running turn; one that is about to end is waited for, and then it is too late."""
        control = op.record.control
        assert isinstance(control, SteerControl)
        turn = control.turn
        if self._foreign(op, state):
            return self._deny(op, state, "unknown", out, now_ms)
        if state.ended(turn) is not None:
            return self._came_late(turn, state, out, now_ms)
        if state.open is None or state.open.turn != turn:
            waits = (
                any(mail.id == turn and mail.user == control.user for mail in self.mail)
                or self._joined(turn, state) is not None
                or state.parked_turn(turn) is not None
                or state.unended(turn) is not None
            )
            return self._deny(op, state, "refused" if waits else "unknown", out, now_ms)
        if len(state.open.joined) >= STEERS_LIMIT:
            self._reply(self._ops.popleft(), "refused", turn, out, now_ms)
            return True
        if self.running is None:
            if not self._proof:
                return self._ask(Prove(), out)
        elif not self._steerable(state):
            return False
        return self._write_down(control, control.text, state, out, now_ms)

    def _forget(self, op: Op, state: State, out: list[Effect], now_ms: int) -> bool:
        """Delete or expire: "nothing to do" after a look, else CLOSE."""
        control = op.record.control
        expire = control.kind == "expire"
        if state.opened is None or (not expire and self._foreign(op, state)):
            return self._deny(op, state, "unknown", out, now_ms)
        if expire and not self._may_expire(state, now_ms):
            return self._deny(op, state, "too_late", out, now_ms)
        return self._close(control.kind, control.op, state, out, now_ms)

    def _may_expire(self, state: State, now_ms: int) -> bool:
        if state.opened is None or not state.at_rest or self.mail or self.running is not None:
            return False
        try:
            idle_ms = self._rules.terms(state.opened.agent).idle_ms
        except Refusal:
            return True
        return now_ms - state.last_ms >= idle_ms

    def _close(self, reason: str, op: str | None, state: State, out: list[Effect], now_ms: int) -> bool:
        """CLOSE: after every terminal frame that nobody is known to have seen is out, and a proof of membership."""
        self._republish_unseen(state, out)
        if self._publishing:
            return False
        if not self._proof:
            return self._ask(Prove(), out)
        return self._ask(
            Append(state.version + 1, endings.close(self.key, state, reason=reason, now_ms=now_ms, op=op)), out
        )

    def _closed_for_good(self, out: list[Effect]) -> bool:
        """The content is unset and the frames are out: now the deletes are answered."""
        closers, self._closers = self._closers, []
        for op in closers:
            self._reply(op, "applied", None, out, self.state.last_ms if self.state else 0)
        return True
