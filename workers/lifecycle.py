"""A turn's life in its session: begun, taken over, given up, finished. No I/O."""

from __future__ import annotations

from journal.state import State
from schemas.codes import Code
from schemas.entries import Claim, Finish, Open
from schemas.errors import Refusal
from schemas.frames import CancelledBy
from workers import endings
from workers.commands import Commands
from workers.effects import (
    Append,
    Effect,
    Mail,
    Prove,
    Start,
    WantSlot,
)
from workers.holdings import Terms
from workers.letters import fault_of_open
from workers.result import Result


class Lifecycle(Commands):
    """Decisions about the turn that is next, and the one that runs."""

    __slots__ = ()

    def _begin(self, mail: Mail, state: State, out: list[Effect], now_ms: int) -> bool:
        if self._wants:
            return False  # looked at again when the slot is there
        if state.ended(mail.id) is not None:
            self.mail.popleft()
            self._republish(mail.id, out)
            return True
        if state.opened is not None and state.opened.user != mail.user:
            self.mail.popleft()  # it came before the session was opened, for somebody else
            for trigger in self._held.pop(mail.id, ()):
                self._deny_turn(mail, trigger)
            return True
        try:
            terms = self._terms(mail, state)
        except Refusal as refusal:
            return self._reject(mail, refusal.code, refusal.text, out)
        if state.opened is not None and terms.idle_ms <= now_ms - state.last_ms:
            return self._close("expire", None, state, out, now_ms)
        if self._settled_instead(mail, terms, state, now_ms):
            return True
        if not self._slot:
            self._wants = True
            out.append(WantSlot())
            return False
        return self._ask(Append(state.version + 1, self._claim(mail, state, terms, now_ms)), out)

    def _terms(self, mail: Mail, state: State) -> Terms:
        asked = mail.record.turn.agent
        if state.opened is None:
            return self._rules.terms(asked)
        if asked is not None and asked != state.opened.agent:
            raise Refusal(Code.BAD_REQUEST, f"agent: this session belongs to {state.opened.agent}")
        if mail.record.turn.history is not None and (state.turns or state.history):
            raise Refusal(Code.BAD_REQUEST, "history: only on a session's first turn")
        return self._rules.terms(state.opened.agent)

    def _settled_instead(self, mail: Mail, terms: Terms, state: State, now_ms: int) -> bool:
        """Whether the head of the mailbox ends without running: cancelled ahead, out of time, session expired."""
        verdict: Code | CancelledBy | None = None
        text = ""
        if state.ahead and state.cancelled_ahead(mail.id, mail.user) is not None:
            verdict = "user"
        elif mail.deadline_ms <= now_ms:
            verdict, text = Code.DEADLINE_EXCEEDED, "the deadline passed while the turn waited"
        elif not terms.fresh_when_expired and state.opened is None and self._expired(state):
            verdict, text = Code.SESSION_EXPIRED, "the session expired; open it anew or use another id"
        if verdict is None:
            return False
        self.mail.popleft()
        self._settles.append((mail, verdict, text, None))
        return True

    def _expired(self, state: State) -> bool:
        return state.closed is not None and state.closed.reason == "expire"

    def _claim(self, mail: Mail, state: State, terms: Terms | None, now_ms: int) -> Claim:
        """`terms`: only where the session is to be opened."""
        record = mail.record
        turn = record.turn
        opens = None
        if state.opened is None and terms is not None:
            opens = Open(
                at_ms=now_ms,
                user=turn.user,
                agent=terms.agent,
                agent_version=terms.version,
                if_busy=turn.if_busy or "enqueue",
            )
        return Claim.trusted(
            at_ms=now_ms,
            k="claim",
            turn=record.id,
            attempt=1,
            tries=1,
            worker=self._rules.worker,
            user=turn.user,
            position=record.position,
            digest=mail.digest,
            deadline_ms=mail.deadline_ms,
            reply_to=record.reply_to,
            traceparent=record.traceparent,
            input=turn,
            opens=opens,
        )

    def _take_over(self, state: State, out: list[Effect], now_ms: int) -> bool:
        """An open turn that does not run here is resumed before anything else, after a proof of membership."""
        turn = state.open
        assert turn is not None
        tries = 1 if turn.progress else turn.tries + 1
        over = now_ms >= turn.deadline_ms or tries > self._rules.tries
        if not over and not self._slot:
            if not self._wants:
                self._wants = True
                out.append(WantSlot())
            return False
        if not self._proof:
            return self._ask(Prove(), out)
        if over:
            return self._give_up(tries, state, out, now_ms)
        reply_to = next((t.reply_to for t in self._held.get(turn.turn, ()) if t.reply_to), None)
        entry = Claim(
            at_ms=now_ms,
            turn=turn.turn,
            attempt=turn.attempt + 1,
            tries=tries,
            worker=self._rules.worker,
            user=turn.user,
            position=turn.position,
            digest=turn.digest,
            deadline_ms=turn.deadline_ms,
            reply_to=reply_to or turn.reply_to,
        )
        return self._ask(Append(state.version + 1, entry), out)

    def _give_up(self, tries: int, state: State, out: list[Effect], now_ms: int) -> bool:
        """The open turn is out of tries or out of time: its outcome, without another run."""
        poison = tries > self._rules.tries
        self._gave_up = fault_of_open(state.open) if poison and state.open is not None else None
        code = Code.POISON if poison else Code.DEADLINE_EXCEEDED
        text = f"{tries - 1} attempts ended with their process" if poison else "the deadline passed"
        result = Result(outcome="failed", code=code, message=text, unrun=True)
        entry = endings.finish(self.key, state, result, now_ms=now_ms, op=None, claim=None)
        return self._ask(Append(state.version + 1, entry), out)

    def _finish(self, result: Result, state: State, out: list[Effect], now_ms: int) -> bool:
        op = self._cancels[0].record.control.op if self._cancels and result.outcome == "cancelled" else None
        claim = self._merged_claim(state, now_ms)
        entry = endings.finish(self.key, state, result, now_ms=now_ms, op=op, claim=claim)
        return self._ask(Append(state.version + 1, entry), out)

    def _merged_claim(self, state: State, now_ms: int) -> Claim | None:
        """The CLAIM of the next waiting turn, where nothing about it needs a second look."""
        if not (self._merge and self._slot and self.mail) or self._ops or self._settles or state.ahead:
            return None
        if self._repeats or (state.open is not None and state.open.joined):
            return None
        mail = self.mail[0]
        turn = mail.record.turn
        opened = state.opened
        if opened is None or turn.agent not in {None, opened.agent} or turn.history is not None:
            return None
        if opened.user != mail.user:
            return None
        if mail.deadline_ms <= now_ms or mail.id in self._acked or mail.id in state.ended_turns:
            return None
        return self._claim(mail, state, None, now_ms)

    def allow_merge(self, allowed: bool) -> None:
        """Whether FINISH may carry the next CLAIM: not while other sessions wait for a slot or a snapshot is due."""
        self._merge = allowed

    def _after_claim(self, entry: Claim, out: list[Effect]) -> None:
        if self.mail and self.mail[0].id == entry.turn:
            self.mail.popleft()
        self.running = entry.turn
        self._stopping, self._sealed = None, False
        out.append(Start())

    def _after_finish(self, entry: Finish, out: list[Effect], now_ms: int) -> None:
        self.running, self._result, self._stopping = None, None, None
        self._joins.clear()
        self._publish(entry.turn, entry.frames[0], out, self._gave_up)
        for turn, frame in zip(entry.joined, entry.frames[1:], strict=True):
            self._publish(turn, frame, out)
        self._gave_up = None
        for op in self._cancels:
            self._answer(op, "applied" if entry.outcome == "cancelled" else "too_late", entry.turn, out, now_ms)
        self._cancels.clear()
        self._watchers.clear()
        if entry.claim is not None:
            self._after_claim(entry.claim, out)
        else:
            self._give_slot_back(out)
