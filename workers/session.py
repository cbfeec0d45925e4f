"""One session's decisions in the worker that owns it: what happened in, effects out. No I/O, no clock, no tasks.

Every public method but the properties takes one fact and gives the effects that follow, in order. Facts that answer a
question: `loaded looked proved found applied collided known wiped`. The rest come when they come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from journal.state import State, fold
from schemas.codes import Code
from schemas.control import CancelControl
from schemas.entries import Claim, Close, ControlNote, Entry, Finish, Open, Release, Settle, Step
from schemas.errors import Refusal
from schemas.frames import Ack, AckState, CancelledBy
from schemas.ids import split_key
from workers import endings
from workers.effects import (
    Abandon,
    Acknowledge,
    Append,
    DeadLetterTurn,
    Effect,
    Find,
    FreeSlot,
    Load,
    Look,
    Mail,
    Op,
    Prove,
    Publish,
    Refuse,
    Reply,
    Republish,
    Show,
    Start,
    Stop,
    Trigger,
    WantSlot,
    Wipe,
)
from workers.result import Result

_AHEAD_LIMIT = 256
_OWN_PARTITION: frozenset[str | None] = frozenset((None,))


class Terms(NamedTuple):
    """What an agent's registration says about sessions."""

    agent: str
    version: str
    idle_ms: int
    fresh_when_expired: bool


class Rules(NamedTuple):
    """What holds for every session of a worker. `terms` raises Refusal (`agent_unknown`)."""

    worker: str
    tries: int
    terms: Callable[[str | None], Terms]


class Session:
    """See the module. `floor`: the first offset of this assignment on the partition of `agent.turns`; frames of turns
    that lie before it were acknowledged by somebody.

    To be read from outside: `running` (the turn whose agent runs here), `asked` (the open question), `mail` and `inbox`
    (turns that wait, and records not yet looked at)."""

    __slots__ = (
        "_acked",
        "_cancels",
        "_closers",
        "_found",
        "_fresh",
        "_gave_up",
        "_held",
        "_late",
        "_merge",
        "_ops",
        "_proof",
        "_publishing",
        "_refusals",
        "_repeats",
        "_result",
        "_rules",
        "_settles",
        "_slot",
        "_steps",
        "_stopping",
        "_wants",
        "_watchers",
        "asked",
        "floor",
        "inbox",
        "key",
        "mail",
        "running",
        "state",
    )

    def __init__(self, key: str, rules: Rules, *, floor: int = 0, state: State | None = None) -> None:
        self.key = key
        self.floor = floor
        self.state = state
        self._rules = rules
        self.asked: Effect | None = None
        self.inbox: deque[tuple[Mail, Trigger]] = deque()
        self.mail: deque[Mail] = deque()
        self._settles: deque[tuple[Mail, Code | CancelledBy, str, Op | None]] = deque()
        self._refusals: deque[tuple[Mail, Trigger, Code, str]] = deque()
        self._ops: deque[Op] = deque()
        self._closers: list[Op] = []
        self._held: dict[str, list[Trigger]] = {}
        self._publishing: dict[str, int] = {}
        self._repeats: set[str] = set()
        self._acked: dict[str, None] = {}
        self.running: str | None = None
        self._steps: deque[Step] = deque()
        self._result: Result | None = None
        self._stopping: CancelledBy | None = None
        self._cancels: list[Op] = []
        self._watchers: dict[str, None] = {}
        self._slot = self._wants = self._proof = self._fresh = self._late = self._gave_up = False
        self._merge = True
        self._found: str | None = None

    # ---- what others may ask

    @property
    def waiting(self) -> int:
        """Turns that wait here."""
        return len(self.mail) + len(self.inbox)

    @property
    def idle(self) -> bool:
        """Nothing runs, waits, is asked or is being published: the session may leave the pool."""
        return not (
            self.asked is not None
            or self.running is not None
            or self.mail
            or self.inbox
            or self._held
            or self._ops
            or self._closers
            or self._publishing
            or self._settles
            or self._refusals
            or (self.state is not None and self.state.open is not None)
        )

    def release_entry(self, now_ms: int) -> Append | None:
        """The RELEASE of the attempt that runs here, where it may be appended (nothing else is in flight)."""
        state = self.state
        if self.running is None or state is None or state.open is None or isinstance(self.asked, Append):
            return None
        entry = Release(at_ms=now_ms, turn=state.open.turn, attempt=state.open.attempt)
        return Append(state.version + 1, entry)

    def destinations(self, turn: str) -> frozenset[str | None]:
        """Where frames of `turn` go: to whoever asked for it and whoever watches; None: the session's own partition."""
        to: set[str | None] = {trigger.reply_to for trigger in self._held.get(turn, ())}
        if not to and self.state is not None and self.state.open is not None and self.state.open.turn == turn:
            to.add(self.state.open.reply_to)
        to.update(self._watchers)
        return frozenset(to) if to else frozenset((None,))

    # ---- facts

    def arrived(self, mail: Mail, trigger: Trigger, now_ms: int) -> list[Effect]:
        """A turn record came."""
        trigger.waits = 1
        if self._simply_waits(mail):
            self._held[mail.id] = [trigger]
            self.mail.append(mail)
        else:
            self.inbox.append((mail, trigger))
        return self._advance([], now_ms) if self.asked is None else []

    def _simply_waits(self, mail: Mail) -> bool:
        """Whether nothing but its place in the mailbox is to be found for a turn: new, of this session's user, while
        another runs. Most are so under load; the rest takes the longer way, and in order."""
        state, turn = self.state, mail.id
        if self.running is None or state is None or self.inbox or turn in self._held or turn in state.ended_turns:
            return False
        opened, policy = state.opened, mail.record.turn.if_busy
        if opened is None or opened.user != mail.user or turn == self.running:
            return False
        return (policy or opened.if_busy) == "enqueue"

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

    def step(self, step: Step, now_ms: int) -> list[Effect]:
        """The running agent made a step; it waits for the APPLIED of its Append."""
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
        if len(self._acked) > _AHEAD_LIMIT:
            self._acked.pop(next(iter(self._acked)))
        for trigger in self._held.pop(turn, ()):
            self._release(trigger, out)
        return self._advance(out, now_ms)

    def replied(self, trigger: Trigger, now_ms: int) -> list[Effect]:
        """The ack of a control op was acknowledged by the broker."""
        out: list[Effect] = []
        self._release(trigger, out)
        return self._advance(out, now_ms)

    # ---- answers

    def loaded(self, state: State, now_ms: int) -> list[Effect]:
        """Answers `Load`."""
        self.asked = None
        self.state = state
        self._fresh, self._late = not self._late, False
        return self._advance([], now_ms)

    def looked(self, state: State, now_ms: int) -> list[Effect]:
        """Answers `Look`: the state is read after the trigger was received."""
        self.asked = None
        out: list[Effect] = []
        if self.state is not None and state.version != self.state.version:
            self._overtaken(state, out)
        self._fresh, self._late = not self._late, False
        return self._advance(out, now_ms)

    def proved(self, now_ms: int) -> list[Effect]:
        """Answers `Prove`."""
        self.asked = None
        self._proof = True
        return self._advance([], now_ms)

    def found(self, turn: str, known: bool, now_ms: int) -> list[Effect]:
        """Answers `Find`."""
        self.asked = None
        out: list[Effect] = []
        if known:
            self._too_late(self._ops.popleft(), turn, out, now_ms)
        else:
            self._found = turn
        return self._advance(out, now_ms)

    def wiped(self, now_ms: int) -> list[Effect]:
        """Answers `Wipe`."""
        self.asked = None
        assert self.state is not None
        self.state = self.state._replace(wiped=True)
        return self._advance([], now_ms)

    def applied(self, now_ms: int) -> list[Effect]:
        """Answers `Append`: the entry is in the journal."""
        asked = self._take_append()
        assert self.state is not None
        self.state = fold(self.state, asked.version, asked.entry)
        self._proof = False
        out: list[Effect] = []
        self._after(asked.entry, out, now_ms)
        return self._advance(out, now_ms)

    def collided(self, state: State, now_ms: int) -> list[Effect]:
        """Answers `Append`: somebody else wrote that version. `state` is read on, membership is proved."""
        self._take_append()
        out: list[Effect] = []
        self._overtaken(state, out)
        self._fresh = self._proof = self._gave_up = False
        return self._advance(out, now_ms)

    def known(self, now_ms: int) -> list[Effect]:
        """Answers `Append`: nothing collided; the turn that the entry introduces is known to the journal."""
        asked = self._take_append()
        out: list[Effect] = []
        entry = asked.entry
        if isinstance(entry, Finish):
            self._merge = False
        elif isinstance(entry, Settle):
            self._republish(self._settles.popleft()[0].id, out)
        else:
            self._republish(self.mail.popleft().id, out)
        return self._advance(out, now_ms)

    # ---- the order of things

    def _advance(self, out: list[Effect], now_ms: int) -> list[Effect]:
        while self.asked is None and self._next(out, now_ms):
            pass
        return out

    def _ask(self, question: Effect, out: list[Effect]) -> bool:
        self.asked = question
        out.append(question)
        return False

    def _next(self, out: list[Effect], now_ms: int) -> bool:
        """One decision; whether another one can follow at once."""
        state = self.state
        if state is None:
            return self._ask(Load(), out) if self.inbox or self._ops else False
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
        if self._settles:
            return self._settle_next(state, out, now_ms)
        if self._ops:
            return self._obey(self._ops[0], state, out, now_ms)
        if self._repeats:
            return False  # a frame that a dead owner left unpublished comes before anything later of the session
        if state.open is not None:
            return self._take_over(state, out, now_ms)
        if self.mail:
            return self._begin(self.mail[0], state, out, now_ms)
        self._give_slot_back(out)
        return False

    def _next_running(self, state: State, out: list[Effect], now_ms: int) -> bool:
        if self._steps:
            return self._ask(Append(state.version + 1, self._steps[0]), out)
        if self._result is not None:
            return self._finish(self._result, state, out, now_ms)
        if self._settles:
            return self._settle_next(state, out, now_ms)
        if self._ops:
            return self._obey(self._ops[0], state, out, now_ms)
        return False

    # ---- turns that come in

    def _admit(self, mail: Mail, trigger: Trigger, state: State, out: list[Effect], now_ms: int) -> None:
        """Identity is the turn id: known turns join what is there, new ones wait."""
        turn = mail.id
        if state.opened is not None and state.opened.user != mail.user:
            self._fresh = False
            self._refusals.append((mail, trigger, Code.NOT_FOUND, "there is no such session for this user"))
            return
        seen = self._digest_of(turn, state)
        if seen is None:
            self._wait(mail, trigger, state, out)
        elif seen and seen != mail.digest:
            self._refusals.append((mail, trigger, Code.CONFLICT, "this turn id is known with other content"))
        elif (state.open is not None and state.open.turn == turn) or any(m.id == turn for m in self.mail):
            self._hold(turn, trigger)
        else:
            self._hold(turn, trigger)
            if state.ended(turn) is not None:
                self._republish(turn, out, frozenset((trigger.reply_to,)))

    def _digest_of(self, turn: str, state: State) -> str | None:
        """The digest of a turn that runs, waits, is being settled or is over here; None: not seen."""
        if state.open is not None and state.open.turn == turn:
            return state.open.digest
        if turn in self._held:
            for mail in self.mail:
                if mail.id == turn:
                    return mail.digest
            for item in self._settles:
                if item[0].id == turn:
                    return item[0].digest
        ended = state.ended(turn)
        return ended.digest if ended is not None else None

    def _wait(self, mail: Mail, trigger: Trigger, state: State, out: list[Effect]) -> None:
        policy = mail.record.turn.if_busy or (state.opened.if_busy if state.opened else "enqueue")
        busy = self.running is not None or state.open is not None or bool(self.mail)
        self._hold(mail.id, trigger)
        if busy and policy == "reject":
            self._settles.append((mail, Code.BUSY, "a turn runs or waits and the policy is reject", None))
            return
        if busy and policy in {"interrupt", "rollback"}:
            self._interrupt("interrupt" if policy == "interrupt" else "rollback", out)
        self.mail.append(mail)

    def _interrupt(self, by: CancelledBy, out: list[Effect]) -> None:
        """End the running turn and every earlier waiting one, in order."""
        if self.running is not None and self._result is None and self._stopping is None:
            self._stopping = by
            out.append(Stop(by))
        self._settles.extend((mail, by, "", None) for mail in self.mail)
        self.mail.clear()

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

    # ---- a turn begins

    def _begin(self, mail: Mail, state: State, out: list[Effect], now_ms: int) -> bool:
        if self._wants:
            return False  # looked at again when the slot is there
        if state.ended(mail.id) is not None:
            self.mail.popleft()
            self._republish(mail.id, out)
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
        if state.cancelled_ahead(mail.id, mail.user) is not None:
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
        self._gave_up = poison = tries > self._rules.tries
        code = Code.POISON if poison else Code.DEADLINE_EXCEEDED
        text = f"{tries - 1} attempts ended with their process" if poison else "the deadline passed"
        result = Result(outcome="failed", code=code, message=text)
        entry = endings.finish_unrun(self.key, state, result, now_ms=now_ms, op=None)
        return self._ask(Append(state.version + 1, entry), out)

    # ---- a turn ends

    def _finish(self, result: Result, state: State, out: list[Effect], now_ms: int) -> bool:
        op = self._cancels[0].record.control.op if self._cancels and result.outcome == "cancelled" else None
        claim = self._merged_claim(state, now_ms)
        entry = endings.finish(self.key, state, result, now_ms=now_ms, op=op, claim=claim)
        return self._ask(Append(state.version + 1, entry), out)

    def _merged_claim(self, state: State, now_ms: int) -> Claim | None:
        """The CLAIM of the next waiting turn, where nothing about it needs a second look."""
        if not (self._merge and self._slot and self.mail) or self._ops or self._settles or state.ahead:
            return None
        if self._repeats:
            return None
        mail = self.mail[0]
        turn = mail.record.turn
        opened = state.opened
        if opened is None or turn.agent not in {None, opened.agent} or turn.history is not None:
            return None
        if mail.deadline_ms <= now_ms or mail.id in self._acked or mail.id in state.ended_turns:
            return None
        return self._claim(mail, state, None, now_ms)

    def allow_merge(self, allowed: bool) -> None:
        """Whether FINISH may carry the next CLAIM: not while other sessions wait for a slot or a snapshot is due."""
        self._merge = allowed

    def _settle_next(self, state: State, out: list[Effect], now_ms: int) -> bool:
        mail, verdict, text, op = self._settles[0]
        if state.ended(mail.id) is not None:
            self._settles.popleft()
            self._republish(mail.id, out)
            return True
        op_id = op.record.control.op if op is not None else None
        if isinstance(verdict, Code):
            entry = endings.settle_failed(self.key, mail, verdict, text, now_ms=now_ms)
        else:
            entry = endings.settle_cancelled(self.key, mail, verdict, now_ms=now_ms, op=op_id)
        return self._ask(Append(state.version + 1, entry), out)

    # ---- what follows an entry that is in

    def _after(self, entry: Entry, out: list[Effect], now_ms: int) -> None:
        if isinstance(entry, Finish):
            self._after_finish(entry, out, now_ms)
        elif isinstance(entry, Claim):
            self._after_claim(entry, out)
        elif isinstance(entry, Step):
            if self._steps:
                self._steps.popleft()
        elif isinstance(entry, Settle):
            op = self._settles.popleft()[3]
            self._publish(entry.turn, entry.frames[0], out)
            if op is not None:
                self._answer(op, "applied", entry.turn, out, now_ms)
        elif isinstance(entry, Open):
            self._reply(self._ops.popleft(), "applied", None, out, now_ms)
        elif isinstance(entry, ControlNote):
            self._reply(self._ops.popleft(), "held", entry.turn, out, now_ms)
        elif isinstance(entry, Close):
            self._after_close(entry, out, now_ms)

    def _after_claim(self, entry: Claim, out: list[Effect]) -> None:
        if self.mail and self.mail[0].id == entry.turn:
            self.mail.popleft()
        self.running = entry.turn
        self._stopping = None
        out.append(Start())

    def _after_finish(self, entry: Finish, out: list[Effect], now_ms: int) -> None:
        self.running, self._result, self._stopping = None, None, None
        self._publish(entry.turn, entry.frames[0], out)
        if self._gave_up:
            self._gave_up = False
            out.append(DeadLetterTurn(entry.turn, Code.POISON, "tried as often as is allowed"))
        for op in self._cancels:
            self._answer(op, "applied" if entry.outcome == "cancelled" else "too_late", entry.turn, out, now_ms)
        self._cancels.clear()
        self._watchers.clear()
        if entry.claim is not None:
            self._after_claim(entry.claim, out)
        else:
            self._give_slot_back(out)

    def _after_close(self, entry: Close, out: list[Effect], now_ms: int) -> None:
        if self.running is not None:
            out.append(Abandon())
        self.running, self._result, self._stopping = None, None, None
        self._steps.clear()
        self._give_slot_back(out)
        for turn, frame in zip(entry.ended, entry.frames, strict=True):
            self._publish(turn, frame, out)
        for op in self._cancels:  # of the turn that ran: the CLOSE cancelled it
            self._answer(op, "applied", entry.ended[0], out, now_ms)
        self._cancels.clear()
        if entry.reason == "delete":
            self._settles.extend((mail, "delete", "", None) for mail in self.mail)
            self.mail.clear()
        if entry.op is not None and self._ops and self._ops[0].record.control.op == entry.op:
            self._closers.append(self._ops.popleft())

    def _overtaken(self, state: State, out: list[Effect]) -> None:
        """The journal went on without us: what runs here runs on only if it is still the open attempt."""
        before = self.state.open if self.state is not None else None
        self.state = state
        now = state.open
        same = now is not None and before is not None and (now.turn, now.attempt) == (before.turn, before.attempt)
        if self.running is not None and not (same and now is not None and now.turn == self.running):
            out.append(Abandon())
            self.running, self._result, self._stopping = None, None, None
            self._steps.clear()
            self._give_slot_back(out)
        if self.running is None:
            self._ops.extendleft(reversed(self._cancels))
            self._cancels.clear()
        waiting = {mail.id for mail in self.mail} | {item[0].id for item in self._settles}
        for turn in list(self._held):
            if turn not in waiting and turn not in self._publishing and (now is None or now.turn != turn):
                self._republish(turn, out)

    def _give_slot_back(self, out: list[Effect]) -> None:
        if self._slot or self._wants:
            self._slot = self._wants = False
            out.append(FreeSlot())

    # ---- control

    def _obey(self, op: Op, state: State, out: list[Effect], now_ms: int) -> bool:
        control = op.record.control
        if state.seen(control.op) is not None:
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
        self._reply(self._ops.popleft(), "refused", getattr(control, "turn", None), out, now_ms)
        return True

    def _foreign(self, op: Op, state: State) -> bool:
        return state.opened is not None and state.opened.user != op.record.control.user

    def _obeyed_before(self, op: Op, state: State, out: list[Effect], now_ms: int) -> bool:
        """A second one appends nothing; it is a trigger of its turn."""
        seen = state.seen(op.record.control.op)
        turn = seen.turn if seen is not None else None
        if turn is not None and state.ended(turn) is not None:
            self._republish(turn, out, frozenset((op.trigger.reply_to,)))
            if op.record.control.kind not in {"delete", "expire"}:
                self._answer(op, "applied", turn, out, now_ms)
                return True
        if op.record.control.kind in {"delete", "expire"}:
            for ended in state.over:
                if seen is not None and ended.version == seen.version:
                    self._republish(ended.turn, out)
            self._closers.append(op)
            return True
        held = turn is not None and any(item.turn == turn for item in state.ahead)
        self._reply(op, "held" if held else "applied", turn, out, now_ms)
        return True

    def _cancel(self, op: Op, state: State, out: list[Effect], now_ms: int) -> bool:
        control = op.record.control
        assert isinstance(control, CancelControl)
        turn = control.turn
        if self._foreign(op, state):
            return self._deny(op, state, "held", out, now_ms)
        if state.ended(turn) is not None:
            self._too_late(self._ops.popleft(), turn, out, now_ms)
            return True
        if self.running == turn:
            return self._cancel_running(out)
        if state.open is not None and state.open.turn == turn:
            if not self._proof:
                return self._ask(Prove(), out)
            return self._cancel_open(op, state, out, now_ms)
        mail = next((mail for mail in self.mail if mail.id == turn), None)
        if mail is not None:
            self.mail.remove(mail)
            self._settles.append((mail, "user", "", self._ops.popleft()))
            return True
        if self._found != turn:
            return self._ask(Find(turn), out)
        self._found = None
        if len(state.ahead) >= _AHEAD_LIMIT:
            self._reply(self._ops.popleft(), "refused", turn, out, now_ms)
            return True
        note = ControlNote(
            at_ms=now_ms,
            op=control.op,
            kind="cancel",
            turn=turn,
            tenant=control.tenant,
            user=control.user,
        )
        return self._ask(Append(state.version + 1, note), out)

    def _cancel_running(self, out: list[Effect]) -> bool:
        """The agent is stopped; the ack follows the FINISH, whichever outcome it holds."""
        if self._stopping is None:
            self._stopping = "user"
            out.append(Stop("user"))
        self._cancels.append(self._ops.popleft())
        return True

    def _cancel_open(self, op: Op, state: State, out: list[Effect], now_ms: int) -> bool:
        """The turn is open and runs nowhere: its outcome is cancelled."""
        result = Result(outcome="cancelled", by="user")
        entry = endings.finish_unrun(self.key, state, result, now_ms=now_ms, op=op.record.control.op)
        self._cancels.append(self._ops.popleft())
        return self._ask(Append(state.version + 1, entry), out)

    def _too_late(self, op: Op, turn: str, out: list[Effect], now_ms: int) -> None:
        """Over: answered with the outcome."""
        self._republish(turn, out, frozenset((op.trigger.reply_to,)))
        self._answer(op, "too_late", turn, out, now_ms)

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
            agent_version=terms.version,
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

    def _deny(self, op: Op, state: State, answer: AckState, out: list[Effect], now_ms: int) -> bool:
        """Another user's object answers as a missing one; "missing" is said only of a state read after the record."""
        if not self._fresh:
            return self._ask(Look(), out)
        self._ops.popleft()
        self._reply(op, answer, getattr(op.record.control, "turn", None), out, now_ms)
        return True

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
        for ended in state.over:
            unseen = ended.turn not in self._acked and ended.offset >= self.floor
            if unseen and ended.turn not in self._publishing:
                self._republish(ended.turn, out)
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

    # ---- publishing and acknowledging

    def _hold(self, turn: str, trigger: Trigger) -> None:
        held = self._held.get(turn)
        if held is None:
            self._held[turn] = [trigger]
        else:
            held.append(trigger)

    def _publish(self, turn: str, frame: str, out: list[Effect]) -> None:
        held = self._held.get(turn, ())
        to = frozenset([trigger.reply_to for trigger in held]) if held else _OWN_PARTITION
        if self._watchers:
            to = to.union(self._watchers) if held else frozenset(self._watchers)
        self._publishing[turn] = self._publishing.get(turn, 0) + 1
        out.append(Publish(turn, frame, to))

    def _republish(self, turn: str, out: list[Effect], to: frozenset[str | None] | None = None) -> None:
        self._publishing[turn] = self._publishing.get(turn, 0) + 1
        self._repeats.add(turn)
        out.append(Republish(turn, to or self.destinations(turn)))

    def _reply(self, op: Op, state: AckState, turn: str | None, out: list[Effect], now_ms: int) -> None:
        tenant, session = split_key(self.key)
        op.trigger.waits += 1
        out.append(
            Reply(
                Ack(op=op.record.control.op, session=session, state=state, at_ms=now_ms, turn=turn, tenant=tenant),
                op.trigger,
            )
        )

    def _answer(self, op: Op, state: AckState, turn: str, out: list[Effect], now_ms: int) -> None:
        """Reply, and hold the op's trigger until the turn's terminal frame is acknowledged too."""
        self._hold(turn, op.trigger)
        op.trigger.waits += 1
        self._reply(op, state, turn, out, now_ms)

    def _release(self, trigger: Trigger, out: list[Effect]) -> None:
        trigger.waits -= 1
        if trigger.waits <= 0:
            out.append(Acknowledge(trigger))

    def _take_append(self) -> Append:
        asked, self.asked = self.asked, None
        assert isinstance(asked, Append)
        return asked
