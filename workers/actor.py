"""A session at work: carries out what its decisions ask for and tells them what became of it. Decides nothing itself.

Order of effects: an entry is durable before its frame is published, a frame is acknowledged before its trigger is
marked. Answers that come after the partition was lost (`dead`) are dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from journal.port import Row, Verdict
from journal.rows import row_of
from journal.state import State
from schemas.codes import Code
from schemas.entries import Claim, Close, Entry, Finish, Open, Settle, Step
from schemas.errors import Refusal
from schemas.ids import split_key
from workers import effects as fx
from workers.agent import Agent, SessionInfo
from workers.emitter import Emitter, FrameIds
from workers.executor import RunningTurn
from workers.job import Job, TurnLost
from workers.outbox import noted
from workers.partition import Partition
from workers.questions import Questions
from workers.result import Result

if TYPE_CHECKING:
    from workers.system import ActorSystem

_QUANTUM_S = 0.05  # short turns of one session follow each other this long before its slot goes to whoever waits


class Actor(Questions):
    """Session, agent instance and mailbox. Implements the executor's `TurnLink` and the slots' `Seeker`."""

    __slots__ = (
        "_append_row",
        "_append_s",
        "_claimed",
        "_known_info",
        "_pending",
        "_run",
        "_slot_s",
        "_steps",
        "_waited",
        "listed_ms",
    )

    def __init__(self, key: str, partition: Partition, system: ActorSystem) -> None:
        super().__init__(key, partition, system)
        self.listed_ms = 0
        self._run: RunningTurn | None = None
        self._known_info: tuple[Open, SessionInfo] | None = None
        self._claimed = 0
        self._steps: deque[asyncio.Future[None]] = deque()
        self._append_row: Row | None = None
        self._pending: Entry | None = None
        self._append_s = 0.0
        self._slot_s = 0.0
        self._waited = 0

    # ---- facts from outside

    def turn(self, mail: fx.Mail, trigger: fx.Trigger) -> None:
        """A turn record came."""
        self._tell(self.session.arrived(mail, trigger, self._system.clock_ms()))

    def control(self, op: fx.Op) -> None:
        """A control record came."""
        self._tell(self.session.commanded(op, self._system.clock_ms()))

    def slot_granted(self) -> None:
        """Seeker: run now."""
        if not self.dead:
            self._slot_s = self._system.clock_s()
            self._tell(self.session.granted(self._system.clock_ms()))

    def held(self) -> bool:
        """Seeker: wait until a model takes calls again."""
        return self._system.gate is not None and self._system.gate.holds(self.session)

    async def append_step(self, step: Step) -> None:
        """TurnLink: returns once the step is durable. Raises TurnLost: also where another attempt, or another turn, is
        the open one, for a STEP of this one would make the session unreadable."""
        now = self.session.state.open if self.session.state is not None else None
        if self.dead or self.session.ending or now is None or (now.turn, now.attempt) != (step.turn, step.attempt):
            raise TurnLost
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._steps.append(durable)
        self._tell(self.session.step(step, self._system.clock_ms()))
        await durable

    def lost(self, release: bool) -> None:
        """The partition is somebody else's, or the worker stops: no frame, and no entry but RELEASE, best effort."""
        entry = self.session.release_entry(self._system.clock_ms()) if release else None
        self._drop_run()
        self.dead = True
        self._system.commit.withdraw(self.key)
        if entry is not None:
            row = row_of(self.key, entry.version, entry.entry, self._system.nonce())
            self._system.commit.send_off(row)  # a RELEASE that collides loses nothing

    # ---- carrying out

    def _tell(self, orders: list[fx.Effect]) -> None:
        acts = self._ACTS
        for order in orders:
            acts[type(order)](self, order)
        session = self.session
        if (waiting := len(session.mail) + len(session.inbox)) != self._waited:
            self._system.waiting_changed(self.partition, waiting - self._waited)
            self._waited = waiting
        if session.running is None and not waiting and session.idle and not self.dead:
            self._system.rest(self)

    @property
    def weight(self) -> int:
        """Bytes that this session takes while warm, about."""
        state = self.session.state
        return 4_096 + (state.history.size if state is not None else 0)

    def _append(self, order: fx.Append) -> None:
        row = row_of(self.key, order.version, order.entry, self._system.nonce())
        self._append_row, self._pending = row, order.entry
        self._append_s = self._system.clock_s()
        self._system.commit.append(row, self._verdict)

    def _verdict(self, verdict: Verdict) -> None:
        """The answer to the append in flight."""
        if self.dead:
            return
        entry, row = self._pending, self._append_row
        assert entry is not None and row is not None
        self._pending = self._append_row = None
        if verdict is Verdict.APPLIED:
            self._applied(entry, row)
        elif verdict is Verdict.KNOWN:
            self._system.metrics.count("known")
            self._tell(self.session.known(self._system.clock_ms()))
        else:
            self._system.metrics.count("collisions")
            self._system.spawn(self._collided(), f"collision {self.key}")

    def _applied(self, entry: Entry, row: Row) -> None:
        self._archive.tail_bytes += row.size
        took_s = self._system.clock_s() - self._append_s
        if isinstance(entry, Finish):
            self._finished(entry, took_s)
        elif isinstance(entry, Claim):
            self._system.metrics.hops["claim"].observe(took_s)
        elif isinstance(entry, Step) and self._steps:
            durable = self._steps.popleft()
            if not durable.done():
                durable.set_result(None)
        elif isinstance(entry, Settle):
            self._system.metrics.count("turns", entry.outcome)
        now_ms = self._system.clock_ms()
        orders = self.session.applied(now_ms)
        if now_ms - self.listed_ms > self._system.relist_ms or isinstance(entry, Close):
            self._list(now_ms)
        self._tell(orders)
        if isinstance(entry, Finish) and entry.claim is None:
            self._snapshot()

    def _finished(self, entry: Finish, took_s: float) -> None:
        """A turn is over: counted, booked, logged."""
        system, state = self._system, self.session.state
        system.metrics.hops["finish"].observe(took_s)
        system.metrics.count("turns", entry.outcome)
        receipt = entry.receipt
        if receipt is None or state is None:
            return
        system.outbox.receipt(receipt)
        hops = receipt.hops
        system.metrics.hops["queue"].observe(hops.queue_us / 1e6)
        system.metrics.hops["run"].observe((hops.model_us + hops.agent_us) / 1e6)
        if receipt.model_calls:
            system.count_models(receipt)
        if system.turn_log.enabled:
            system.turn_log.ended(receipt, version=state.version + 1, finish_us=int(took_s * 1e6))

    # ---- running

    def _start(self, _: fx.Start) -> None:
        """Build the agent where it is not warm, then run it."""
        state = self._state()
        assert state.open is not None
        if self._system.turn_log.enabled:
            session, turn = split_key(self.key)[1], state.open
            self._system.turn_log.started(
                session, turn.turn, attempt=turn.attempt, version=state.version, worker=self._system.worker
            )
        self._system.metrics.count("turns_started")
        if state.open.attempt > 1:
            self._system.metrics.count("takeovers")
        if self._agent is None:
            self._system.spawn(self._build(state), f"build {self.key}")
        else:
            self._execute(state, self._agent)

    async def _build(self, state: State) -> None:
        assert state.opened is not None
        try:
            spec = self._system.registry.get(state.opened.agent)
            self._agent = await self._system.builder.build(spec, self._info(state))
            self._spec = spec
        except Refusal as refusal:
            return self._unbuilt(state, refusal.code, refusal.text)
        except Exception as error:  # noqa: BLE001 (whatever a builder raises ends the turn, typed)
            return self._unbuilt(state, getattr(error, "code", Code.AGENT_ERROR), str(error))
        if self._still(state):
            self._execute(state, self._agent)
        return None

    def _unbuilt(self, state: State, code: Code, text: str) -> None:
        if self._still(state):
            self._ended(Result("failed", code=code, message=text[:500]))

    def _still(self, state: State) -> bool:
        """The turn for which a build was begun is still the one that runs here."""
        now = self.session.state
        if self.dead or self.session.ending or now is None or now.open is None or state.open is None:
            return False
        same = (now.open.turn, now.open.attempt) == (state.open.turn, state.open.attempt)
        return same and self.session.running == now.open.turn

    def _info(self, state: State) -> SessionInfo:
        assert state.opened is not None
        known = self._known_info
        if known is None or known[0] is not state.opened:
            tenant, session = split_key(self.key)
            opened = state.opened
            info = SessionInfo(tenant, session, opened.user, opened.agent, opened.agent_version)
            known = self._known_info = (opened, info)
        return known[1]

    def _execute(self, state: State, agent: Agent) -> None:
        assert state.open is not None
        job = Job(self._info(state), state.open, state.history, agent, self._open_emitter, self)
        spec = self._spec
        if spec is not None:
            job.max_reply_bytes, job.max_steps = spec.max_reply_bytes, spec.max_steps
            job.model, job.fallbacks = spec.model, spec.fallbacks
        self._claimed = state.version
        self._run = self._system.executor.start(job, self._ended)

    def _open_emitter(self) -> Emitter:
        """The frames of the attempt that runs."""
        state = self._state()
        assert state.open is not None
        info = self._info(state)
        ids = FrameIds(
            tenant=info.tenant,
            session=info.session,
            turn=state.open.turn,
            attempt=state.open.attempt,
            agent=info.agent,
            agent_version=info.agent_version,
            worker=self._system.worker,
            journal_version=self._claimed,
        )
        return Emitter(
            ids,
            self._emit,
            clock_ms=self._system.clock_ms,
            call_later=self._system.call_later,
            delta_ms=self._system.delta_ms,
        )

    def _emit(self, raw: bytes) -> None:
        """A provisional frame of the running turn."""
        turn = self.session.running
        if turn is not None and not self.dead:
            self._system.outbox.frame(self.key, raw, self.session.destinations(turn))

    def _ended(self, result: Result) -> None:
        self._run = None
        if self._steps:
            self._fail_steps()
        if not self.dead:
            self.session.allow_merge(self._may_go_on())
            self._tell(self.session.ended(result, self._system.clock_ms()))

    def _may_go_on(self) -> bool:
        """Whether this session's next turn may begin with the FINISH of this one: not while a snapshot is due or its
        models take no calls, and not while others wait for a slot that we have held for long."""
        system = self._system
        if system.slots.closed or self._archive.near(system.snapshot_bytes):
            return False
        if system.slots.gated and self.held():
            return False
        return system.slots.waiting == 0 or system.clock_s() - self._slot_s < _QUANTUM_S

    def _stop(self, order: fx.Stop) -> None:
        if self._run is not None:
            self._run.stop(order.by)
        else:
            self._ended(Result("cancelled", by=order.by))

    def _show(self, _: fx.Show) -> None:
        if self._run is not None:
            turn = self._state().open
            self._run.show("watch", len(turn.steps) - 1 if turn is not None else -1)

    def _abandon(self, _: fx.Abandon) -> None:
        self._drop_run()

    def _drop_run(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.abandon()
        self._fail_steps()

    def _fail_steps(self) -> None:
        while self._steps:
            durable = self._steps.popleft()
            if not durable.done():
                durable.set_exception(TurnLost())
                durable.exception()

    # ---- slots, publishing, marking

    def _want_slot(self, _: fx.WantSlot) -> None:
        self._system.slots.want(self)

    def _free_slot(self, _: fx.FreeSlot) -> None:
        self._system.slots.give_back(self.key)

    def _publish(self, order: fx.Publish) -> None:
        system, turn, since_s = self._system, order.turn, self._system.clock_s()

        def acked(error: Exception | None) -> None:
            system.metrics.hops["publish"].observe(system.clock_s() - since_s)
            self._published(turn, error)

        self._terminal(order.frame, order.to, order.fault, acked)

    def _published(self, turn: str, error: Exception | None = None) -> None:
        noted(error)
        if not self.dead:
            self._tell(self.session.published(turn, self._system.clock_ms()))

    def _reply(self, order: fx.Reply) -> None:
        def acked(error: Exception | None) -> None:
            noted(error)
            if not self.dead:
                self._tell(self.session.replied(order.trigger, self._system.clock_ms()))

        self._system.outbox.ack(self.key, order.ack, order.trigger.reply_to, acked)

    def _acknowledge(self, order: fx.Acknowledge) -> None:
        self._system.mark(order.trigger)

    def _refuse(self, order: fx.Refuse) -> None:
        self._system.refuse_turn(order.trigger, order.code, order.text)

    # ---- what is derived

    def _list(self, now_ms: int) -> None:
        """Tell the directory: a new session or a closed one soon, others now and then."""
        state = self._state()
        self.listed_ms = now_ms if state.opened is not None else 0
        if state.opened is not None or state.closed is not None:
            self._system.list_session(self.key, state)

    def _snapshot(self) -> None:
        state = self._state()
        if self._archive.take(state, self._system.snapshot_bytes):
            self._system.snapshots.add(self.key, state, self._archive)

    _ACTS: ClassVar[dict[type, Callable[[Actor, Any], None]]] = {
        fx.Load: Questions._load,
        fx.Look: Questions._look,
        fx.Prove: Questions._prove,
        fx.Find: Questions._find,
        fx.Append: _append,
        fx.Wipe: Questions._wipe,
        fx.Start: _start,
        fx.Stop: _stop,
        fx.Show: _show,
        fx.Abandon: _abandon,
        fx.WantSlot: _want_slot,
        fx.FreeSlot: _free_slot,
        fx.Publish: _publish,
        fx.Republish: Questions._republish,
        fx.Reply: _reply,
        fx.Acknowledge: _acknowledge,
        fx.Refuse: _refuse,
    }
