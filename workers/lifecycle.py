"""A turn's life in its session: begun, taken over, given up, finished. No I/O."""

from __future__ import annotations

from journal.state import OpenTurn, Quarantined, State
from schemas.codes import Code
from schemas.entries import Claim, Finish, Open, Park, Quarantine, Suspend
from schemas.errors import Refusal
from schemas.frames import CancelledBy
from workers import endings
from workers.admission import PARKED_LIMIT, UNPUBLISHED_LIMIT
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
from workers.letters import fault_of_open, id_of
from workers.parked import park, parked_mail
from workers.result import Result
from workers.suspended import LATE

UNPUBLISHED_PARKED_LIMIT = 40


class Lifecycle(Commands):
    """Decisions about the turn that is next, and the one that runs."""

    __slots__ = ()

    def _begin(self, mail: Mail, state: State, out: list[Effect], now_ms: int) -> bool:
        """The first turn that waits."""
        if self._wants or len(self._publishing) + len(state.aside) >= UNPUBLISHED_LIMIT:
            return False  # looked at again when the slot is there, or when frames are out
        terms = self._fate(mail, state, out, now_ms)
        if isinstance(terms, bool):
            return terms
        return self._run(self._claim(mail, state, terms, now_ms), state, out)

    def _fate(self, mail: Mail, state: State, out: list[Effect], now_ms: int) -> Terms | bool:
        """What the head of the mailbox runs under, or, where it does not run, whether another decision can follow."""
        if state.ended(mail.id) is not None:
            self.mail.popleft()
            self._republish(mail.id, out)
            return True
        if state.opened is not None and state.opened.user != mail.user:
            self.mail.popleft()  # it came before the session was opened, for somebody else
            self._turn_away(mail)
            return True
        try:
            terms = self._terms(mail, state)
        except Refusal as refusal:
            return self._reject(mail, refusal.code, refusal.text, out)
        at_rest = not state.begun and state.quarantine is None
        if state.opened is not None and at_rest and terms.idle_ms <= now_ms - state.last_ms:
            return self._close("expire", None, state, out, now_ms)
        return True if self._settled_instead(mail, terms, state, now_ms) else terms

    def _run(self, entry: Claim, state: State, out: list[Effect]) -> bool:
        """A turn that may run is claimed as soon as there is a slot for it."""
        return self._ask(Append(state.version + 1, entry), out) if self._has_slot(out) else False

    def _has_slot(self, out: list[Effect]) -> bool:
        """Whether there is a slot; where there is none, it is wanted, once."""
        if not self._slot and not self._wants:
            self._wants = True
            out.append(WantSlot())
        return self._slot

    def _begin_parked(self, parked: Park, state: State, out: list[Effect], now_ms: int) -> bool:
        """The first turn that is parked: its record was marked long ago, so it is settled where it cannot run."""
        if self._wants or len(self._publishing) >= UNPUBLISHED_PARKED_LIMIT:
            return False
        mail = parked_mail(self.key, parked)
        try:
            self._rules.terms(state.opened.agent if state.opened is not None else None)
        except Refusal as refusal:
            self._settles.append((mail, refusal.code, refusal.text, None))
            return True
        if parked.deadline_ms <= now_ms:
            self._settles.append((mail, Code.DEADLINE_EXCEEDED, LATE, None))
            return True
        return self._run(self._claim(mail, state, None, now_ms, parked=True), state, out)

    def _wait_for_decision(self, turn: OpenTurn, asked: Suspend, state: State, out: list[Effect], now_ms: int) -> bool:
        """The open turn is suspended: its user is asked, what is here of it needs no trigger, what waits is parked."""
        if self._chains:
            self._wake_again(turn.turn, asked.call)
            if self._wakes:
                return True
        if self._asked_about(turn, asked, out):
            self._let_go(state, out)
        if self.mail:
            return self._park_next(self.mail[0], state, out, now_ms)
        self._give_slot_back(out)
        return False

    def _wait_for_room(self, state: State, out: list[Effect], now_ms: int) -> bool:
        """As much stands aside as may: what waits is parked, until one of those is over."""
        self._let_go(state, out)
        if self.mail:
            return self._park_next(self.mail[0], state, out, now_ms)
        self._give_slot_back(out)
        return False

    def _wait_in_quarantine(self, held: Quarantined, state: State, out: list[Effect], now_ms: int) -> bool:
        """A poisonous turn is to be dealt with: nothing begins but what it was redriven as, the others are parked."""
        first = next((parked for parked in state.parked if parked.turn == held.first), None)
        if first is not None:
            return self._begin_parked(first, state, out, now_ms)
        mail = next((mail for mail in self.mail if mail.id == held.first), None)
        if mail is not None:
            self.mail.remove(mail)
            self.mail.appendleft(mail)
            return self._begin(mail, state, out, now_ms)
        self._let_go(state, out)
        if self.mail:
            return self._park_next(self.mail[0], state, out, now_ms)
        self._give_slot_back(out)
        return False

    def _let_go(self, state: State, out: list[Effect]) -> None:
        """The journal holds these turns, and their user was asked: nothing of theirs needs to come again."""
        if any(turn.awaits is not None and not self._rests(turn) for turn in state.aside):
            return  # what is parked behind a question is held as long as that one is not known to be out
        turns = [parked.turn for parked in state.parked]
        decided = [] if state.quarantine is None else [turn for turn in state.aside if turn.awaits is None]
        for now in (*decided, *(() if state.open is None else (state.open,))):
            turns += [now.turn, *now.steering]
        self._leave(turns, out)

    def _park_next(self, mail: Mail, state: State, out: list[Effect], now_ms: int) -> bool:
        """The PARK of the next waiting turn, after its timer."""
        fate = self._fate(mail, state, out, now_ms)
        if isinstance(fate, bool):
            return fate
        if len(state.parked) >= PARKED_LIMIT:
            self.mail.popleft()
            text = f"{PARKED_LIMIT} turns wait behind one that somebody has to decide on"
            self._settles.append((mail, Code.BUSY, text, None))
            return True
        if self._arm_first(mail.id, "", mail.deadline_ms, out):
            return False
        return self._ask(Append(state.version + 1, park(mail, now_ms)), out)

    def _after_park(self, entry: Park) -> None:
        if self.mail and self.mail[0].id == entry.turn:
            self.mail.popleft()

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
            verdict, text = Code.DEADLINE_EXCEEDED, LATE
        elif not terms.fresh_when_expired and state.opened is None and self._expired(state):
            verdict, text = Code.SESSION_EXPIRED, "the session expired; open it anew or use another id"
        if verdict is None:
            return False
        self.mail.popleft()
        self._settles.append((mail, verdict, text, None))
        return True

    def _expired(self, state: State) -> bool:
        return state.closed is not None and state.closed.reason == "expire"

    def _claim(self, mail: Mail, state: State, terms: Terms | None, now_ms: int, *, parked: bool = False) -> Claim:
        """`terms`: only where the session is to be opened. `parked`: its PARK introduced the turn."""
        record = mail.record
        turn = record.turn
        opens = None
        if state.opened is None and terms is not None:
            opens = Open(
                at_ms=now_ms,
                user=turn.user,
                agent=terms.agent,
                agent_version=self._rules.version_for(terms, self.key),
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
            input=None if parked else turn,
            opens=opens,
        )

    def _take_over(self, turn: OpenTurn, state: State, out: list[Effect], now_ms: int) -> bool:
        """An open turn that does not run here, or one that stood aside until now, is resumed before anything else,
        after a proof of membership."""
        tries = 1 if turn.progress else turn.tries + 1
        deadline_ms = deadline_of(turn, now_ms)
        over = now_ms >= deadline_ms or tries > self._rules.tries
        if not over and not self._has_slot(out):
            return False
        if not self._proof:
            return self._ask(Prove(), out)
        if over:
            return self._give_up(turn, tries, state, out, now_ms)
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
            deadline_ms=deadline_ms,
            reply_to=reply_to or turn.reply_to,
        )
        return self._ask(Append(state.version + 1, entry), out)

    def _give_up(self, turn: OpenTurn, tries: int, state: State, out: list[Effect], now_ms: int) -> bool:
        """The turn is out of tries or out of time: its outcome, without another run."""
        poison = tries > self._rules.tries
        quarantine = self._quarantine_of(state, now_ms) if poison else None
        if quarantine is not None and self._arm_first(turn.turn, quarantine.letter, quarantine.until_ms, out):
            return False
        code = Code.POISON if poison else Code.DEADLINE_EXCEEDED
        text = f"{tries - 1} attempts ended with their process" if poison else "the deadline passed"
        self._gave_up = fault_of_open(turn, code, text)
        result = Result(outcome="failed", code=code, message=text, unrun=True)
        entry = endings.finish(
            self.key,
            state,
            result,
            now_ms=now_ms,
            op=None,
            claim=None,
            quarantine=quarantine,
            prices=self._rules.prices,
            turn=turn,
        )
        return self._ask(Append(state.version + 1, entry), out)

    def _quarantine_of(self, state: State, now_ms: int) -> Quarantine | None:
        """Whether the session waits until its poisonous turn is dealt with."""
        if state.open is None or state.opened is None:
            return None
        try:
            waits = self._rules.terms(state.opened.agent).waits_for_poison
        except Refusal:
            return None
        until_ms = now_ms + self._rules.quarantine_ms
        return Quarantine(letter=id_of(state.open.position), until_ms=until_ms) if waits else None

    def _finish(self, result: Result, state: State, out: list[Effect], now_ms: int) -> bool:
        op = self._cancels[0].record.control.op if self._cancels and result.outcome == "cancelled" else None
        self._gave_up = None
        turn = state.unended(self.running)
        assert turn is not None
        endings.fit(turn, state, result)
        if result.outcome == "failed" and result.code is not None:
            self._gave_up = fault_of_open(turn, result.code, result.message)
        claim = self._merged_claim(state, now_ms)
        entry = endings.finish(
            self.key, state, result, now_ms=now_ms, op=op, claim=claim, prices=self._rules.prices, turn=turn
        )
        return self._ask(Append(state.version + 1, entry), out)

    def _merged_claim(self, state: State, now_ms: int) -> Claim | None:
        """The CLAIM of the next waiting turn, where nothing about it needs a second look."""
        if not (self._merge and self._slot and self.mail) or self._ops or self._settles or state.ahead:
            return None
        if (
            self._repeats
            or state.parked
            or state.quarantine is not None
            or (state.open is not None and state.open.joined)
        ):
            return None
        if len(self._publishing) + len(state.aside) >= UNPUBLISHED_LIMIT:
            return None
        if state.aside and (state.open is None or self._full(state) or any(it.awaits is None for it in state.aside)):
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
        if entry.opens is not None:
            self._strangers_out(entry.opens.user)
        self.running = entry.turn
        self._stopping, self._sealed, self._in_call = None, False, {}
        out.append(Start())

    def _after_finish(self, entry: Finish, was: OpenTurn | None, out: list[Effect], now_ms: int) -> None:
        """`was`: the turn before it."""
        if was is not None and entry.op is not None and self._ends_aside(was, entry.op):
            self._publish(entry.turn, entry.frames[0], out, None, was.reply_to)
            self._publish_joined(entry, was, out)
            op = self._ops.popleft()
            self._answer(op, "applied", entry.turn, out, now_ms)
            if self.state is not None:
                self._chain(op.trigger, self.state, out)
            return
        self.running, self._result, self._stopping = None, None, None
        self._joins.clear()
        self._publish(entry.turn, entry.frames[0], out, self._gave_up, was.reply_to if was is not None else None)
        self._publish_joined(entry, was, out)
        self._gave_up = None
        if entry.quarantine is not None:
            self._wake_again(entry.turn, entry.quarantine.letter)
        for op in self._cancels:
            self._answer(op, "applied" if entry.outcome == "cancelled" else "too_late", entry.turn, out, now_ms)
            if was is not None and was.held and self.state is not None:
                self._chain(op.trigger, self.state, out)
        self._cancels.clear()
        if not (self.state is not None and any(turn.awaits is None for turn in self.state.aside)):
            self._watchers.clear()  # else one of them decided on a turn that is resumed now
        if entry.claim is not None:
            self._after_claim(entry.claim, out)
        else:
            self._give_slot_back(out)

    def _ends_aside(self, was: OpenTurn, op: str) -> bool:
        """Whether this FINISH, by `op`, was of a turn that stood aside and did not run here."""
        stood = was.suspended is not None and was.suspended.aside and self.running != was.turn
        return stood and bool(self._ops) and self._ops[0].record.control.op == op

    def _publish_joined(self, entry: Finish, was: OpenTurn | None, out: list[Effect]) -> None:
        if entry.joined:
            askers = {note.turn: note.reply_to for note in was.joined} if was is not None else {}
            for turn, frame in zip(entry.joined, entry.frames[1:], strict=True):
                self._publish(turn, frame, out, None, askers.get(turn))


def deadline_of(turn: OpenTurn, now_ms: int) -> int:
    """While a turn is suspended its deadline stands still."""
    suspended = turn.suspended
    return turn.deadline_ms if suspended is None else turn.deadline_ms - suspended.at_ms + now_ms
