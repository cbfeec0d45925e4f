"""A session at work: carries out what its decisions ask for and tells them what became of it. Decides nothing itself.

Order of effects: an entry is durable before its frame is published, a frame is acknowledged before its trigger is
marked. Answers that come after the partition was lost (`dead`) are dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar

from journal.loader import Loaded, load, read_on
from journal.port import Row, StoreUnavailable, Verdict
from journal.rows import row_of
from journal.state import State
from journal.sweeping import bury_first, too_old
from journal.turns import terminal_of
from journal.wiping import wipe
from schemas.codes import Code
from schemas.dead_letter import DeadLetter
from schemas.entries import Claim, Close, Entry, Finish, Open, Settle, Step
from schemas.errors import Refusal
from schemas.ids import split_key
from workers import effects as fx
from workers.agent import Agent, AgentSpec, SessionInfo
from workers.archive import Archive
from workers.emitter import Emitter, FrameIds
from workers.executor import RunningTurn
from workers.job import Job, TurnLost
from workers.outbox import noted
from workers.partition import TURNS, Partition
from workers.result import Result
from workers.session import Session

if TYPE_CHECKING:
    from workers.system import ActorSystem

_RETRY_S = 0.5
_QUANTUM_S = 0.05  # short turns of one session follow each other this long before its slot goes to whoever waits


class Actor:
    """Session, agent instance and mailbox. Implements the executor's `TurnLink` and the slots' `Seeker`."""

    __slots__ = (
        "_agent",
        "_append_row",
        "_append_s",
        "_archive",
        "_claimed",
        "_known_info",
        "_pending",
        "_run",
        "_slot_s",
        "_spec",
        "_steps",
        "_system",
        "_waited",
        "dead",
        "key",
        "listed_ms",
        "partition",
        "session",
    )

    def __init__(self, key: str, partition: Partition, system: ActorSystem) -> None:
        self.key = key
        self.partition = partition
        self.session = Session(key, system.rules, floor=partition.floor)
        self._archive = Archive()
        self.listed_ms = 0
        self.dead = False
        self._system = system
        self._agent: Agent | None = None
        self._spec: AgentSpec | None = None
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

    async def append_step(self, step: Step) -> None:
        """TurnLink: returns once the step is durable. Raises TurnLost."""
        if self.dead:
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
            self._system.commit.append(row, _ignore)

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
            system.turn_log.ended(
                {
                    "session": receipt.session,
                    "tenant": receipt.tenant,
                    "turn": entry.turn,
                    "attempt": entry.attempt,
                    "version": state.version + 1,
                    "outcome": entry.outcome,
                    "queue_us": hops.queue_us,
                    "model_us": hops.model_us,
                    "agent_us": hops.agent_us,
                    "finish_us": int(took_s * 1e6),
                }
            )

    # ---- questions that take a while

    def _load(self, _: fx.Load) -> None:
        self._system.spawn(self._loaded(), f"load {self.key}")

    async def _loaded(self) -> None:
        loaded: Loaded | None = await self._patiently(self._fold)
        if self.dead or loaded is None:
            return
        self._archive.begin(loaded.saved, loaded.tail_bytes)
        self._tell(self.session.loaded(loaded.state, self._system.clock_ms()))

    async def _fold(self) -> Loaded:
        """Load; what is left of a session closed beyond retention goes first, so that nobody appends above it."""
        store = self._system.store
        loaded = await load(store, self.key)
        if too_old(loaded.state, self._system.clock_ms(), self._system.keep_keys_s):
            await bury_first(store, self.key, loaded.state)
            loaded = await load(store, self.key)
        return loaded

    def _look(self, _: fx.Look) -> None:
        self._system.spawn(self._looked(), f"look {self.key}")

    async def _looked(self) -> None:
        state = self._state()
        journal = self._system.store.journal
        if await self._patiently(lambda: journal.exists(self.key, state.version + 1)):
            newer = await self._patiently(lambda: read_on(self._system.store, self.key, state))
            state = newer if newer is not None else state
        if not self.dead:
            self._tell(self.session.looked(state, self._system.clock_ms()))

    def _find(self, order: fx.Find) -> None:
        self._system.spawn(self._found(order.turn), f"find {self.key}")

    async def _found(self, turn: str) -> None:
        journal = self._system.store.journal
        version = await self._patiently(lambda: journal.introduced(self.key, turn))
        if not self.dead:
            self._tell(self.session.found(turn, version is not None, self._system.clock_ms()))

    def _prove(self, _: fx.Prove) -> None:
        self._system.spawn(self._proved(), f"prove {self.key}")

    async def _proved(self) -> None:
        if await self._system.prove(self.partition) and not self.dead:
            self._tell(self.session.proved(self._system.clock_ms()))

    async def _collided(self) -> None:
        """Read on from the version we had, then prove that we are still a member, before anything is appended."""
        state = await self._patiently(lambda: read_on(self._system.store, self.key, self._state()))
        if self.dead or state is None or not await self._system.prove(self.partition) or self.dead:
            return
        self._tell(self.session.collided(state, self._system.clock_ms()))

    def _wipe(self, _: fx.Wipe) -> None:
        self._system.spawn(self._wiped(), f"wipe {self.key}")

    async def _wiped(self) -> None:
        """Unset what the closed session held; the next life builds its own agent."""
        await self._patiently(lambda: wipe(self._system.store, self.key, self._state()))
        self._archive.begin()
        self._agent = self._spec = None
        if not self.dead:
            self._tell(self.session.wiped(self._system.clock_ms()))

    def _republish(self, order: fx.Republish) -> None:
        self._system.spawn(self._republished(order), f"republish {self.key}")

    async def _republished(self, order: fx.Republish) -> None:
        """The verbatim frame of a turn that is over; nothing where a CLOSE took its content."""
        journal = self._system.store.journal
        ended = await self._patiently(lambda: terminal_of(journal, self.key, order.turn))
        if self.dead:
            return
        if ended is None or ended.frame is None:
            self._published(order.turn)
        else:
            raw = ended.frame.encode()
            self._system.outbox.frame(self.key, raw, order.to, lambda error: self._published(order.turn, error))

    async def _patiently(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Repeat a read until the store answers; None once the session is lost."""
        while not self.dead:
            try:
                return await call()
            except StoreUnavailable:
                await asyncio.sleep(_RETRY_S)
        return None

    # ---- running

    def _start(self, _: fx.Start) -> None:
        """Build the agent where it is not warm, then run it."""
        state = self._state()
        assert state.open is not None
        if self._system.turn_log.enabled:
            names: dict[str, object] = {
                "session": split_key(self.key)[1],
                "turn": state.open.turn,
                "attempt": state.open.attempt,
                "version": state.version,
                "worker": self._system.worker,
            }
            self._system.turn_log.started(names)
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
        if self.dead or now is None or now.open is None or state.open is None:
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
        """Whether this session's next turn may begin with the FINISH of this one: not while a snapshot is due, and not
        while others wait for a slot that we have held for long."""
        system = self._system
        if system.slots.closed or self._archive.near(system.snapshot_bytes):
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

        system.outbox.frame(self.key, order.frame.encode(), order.to, acked)

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

    def _dead_letter(self, order: fx.DeadLetterTurn) -> None:
        system = self._system
        letter = DeadLetter(
            code=order.code, reason=order.text, topic=TURNS, partition=self.partition.number, offset=-1, attempts=3
        )
        system.outbox.poison(self.key, order.turn.encode(), letter)

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
            self._system.spawn(self._save(state), f"snapshot {self.key}")

    async def _save(self, state: State) -> None:
        if await self._archive.write(self._system.store.snapshots, self.key, state):
            self._system.metrics.count("snapshots")

    def _state(self) -> State:
        assert self.session.state is not None
        return self.session.state

    _ACTS: ClassVar[dict[type, Callable[[Actor, Any], None]]] = {
        fx.Load: _load,
        fx.Look: _look,
        fx.Prove: _prove,
        fx.Find: _find,
        fx.Append: _append,
        fx.Wipe: _wipe,
        fx.Start: _start,
        fx.Stop: _stop,
        fx.Show: _show,
        fx.Abandon: _abandon,
        fx.WantSlot: _want_slot,
        fx.FreeSlot: _free_slot,
        fx.Publish: _publish,
        fx.Republish: _republish,
        fx.Reply: _reply,
        fx.Acknowledge: _acknowledge,
        fx.Refuse: _refuse,
        fx.DeadLetterTurn: _dead_letter,
    }


def _ignore(verdict: Verdict) -> None:
    """A RELEASE that collides loses nothing."""
