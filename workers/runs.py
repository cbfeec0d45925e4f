"""A session's turn that runs: its agent is built, started, told, stopped; its line to the journal. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from journal.port import Verdict
from journal.rows import row_of
from journal.state import State
from schemas.codes import Code
from schemas.control import ApproveControl
from schemas.entries import Intent, Open, Step, Suspend
from schemas.errors import Refusal
from schemas.frames import ApprovalDecided, Joined, encode
from schemas.ids import split_key
from workers import effects as fx
from workers.agent import Agent, SessionInfo
from workers.emitter import Emitter, FrameIds
from workers.executor import RunningTurn
from workers.job import Job, TurnLost
from workers.ledger.booking import spent_by
from workers.line import Line
from workers.partition import Partition
from workers.questions import Questions
from workers.result import Result
from workers.slots import Standing

if TYPE_CHECKING:
    from workers.system import ActorSystem

# Turns of one session follow each other so long, and so many of them, before its slot goes to whoever waits. Counted is
# what they run, not what the journal takes: that grows with the load, and two inserts a turn do not make it shorter.
_QUANTUM_US, _IN_A_ROW = 50_000, 8


class Runs(Questions):
    """The part of an actor that runs turns. Implements the executor's `TurnLink` and the slots' `Seeker`."""

    __slots__ = ("_claimed", "_handed", "_known_info", "_landing", "_row", "_row_us", "_run", "_steps")

    def __init__(self, key: str, partition: Partition, system: ActorSystem) -> None:
        super().__init__(key, partition, system)
        self._run: RunningTurn | None = None
        self._known_info: tuple[Open, SessionInfo] | None = None
        self._claimed = 0
        self._handed = False
        self._landing: asyncio.Future[None] | None = None
        self._steps: Line[asyncio.Future[None]] = Line()
        self._row = self._row_us = 0

    def slot_granted(self) -> None:
        """Seeker: run now."""
        if not self.dead:
            self._row = self._row_us = 0
            self._tell(self.session.granted(self._system.clock_ms()))

    def held(self) -> bool:
        """Seeker: wait until a model takes calls again."""
        return self._system.gate is not None and self._system.gate.holds(self.session)

    def standing(self) -> Standing:
        """Seeker: how many processes ended with the open turn."""
        state, limit = self.session.state, self._system.rules.tries
        turn = state.open if state is not None else None
        if turn is None or turn.progress or not 0 < turn.tries < limit:
            return Standing.CLEAR
        if self.session.running is not None or turn.deadline_ms <= self._system.clock_ms():
            return Standing.CLEAR
        return Standing.LAST_TRY if 1 < turn.tries == limit - 1 else Standing.SUSPECT

    async def append(self, entry: Step | Intent | Suspend) -> None:
        """TurnLink: returns once the entry is durable. Raises TurnLost: also where another attempt, or another turn, is
        the open one, for an entry of this one would make the session unreadable; and once a SUSPEND is durable."""
        now = self.session.state.open if self.session.state is not None else None
        if self.dead or self.session.ending or now is None or (now.turn, now.attempt) != (entry.turn, entry.attempt):
            raise TurnLost
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._steps.append(durable)
        self._tell(self.session.step(entry, self._system.clock_ms()))
        await durable

    def at_boundary(self) -> None:
        """TurnLink: a step is durable and no other one has begun."""
        if self._system.leaving:
            self.hand_over()

    def hand_over(self, *, at_once: bool = False) -> None:
        """The worker leaves: what runs here is the next owner's, from the next step boundary on, or `at_once`. What is
        being written comes first, whichever entry it is: then this is called again. Afterwards the session hears
        acknowledgements still, so that what is published is marked, and does nothing else."""
        if at_once:
            self._drop_run()
        if self._run is not None:
            self._run.withdraw()
        writes = isinstance(self.session.asked, fx.Append) or self.session.ending
        if self.dead or writes or (self._run is not None and not self._run.at_boundary):
            return
        entry = self.session.release_entry(self._system.clock_ms())
        self._drop_run()
        self.dead = self._handed = True
        if entry is not None:
            row = row_of(self.key, entry.version, entry.entry, self._system.nonce())
            self._system.commit.append(row, _unheard)
            self._system.handed_over += 1
        self._system.slots.give_back(self.key)

    def ask(self, call: str, fits: Callable[[ApproveControl], bool]) -> bool:
        """TurnLink: nobody is asked any more by a worker that leaves."""
        return not (self.dead or self._system.leaving) and self.session.asks(call, fits)

    def withdraw(self, call: str) -> bool:
        """TurnLink: also once the session is lost."""
        return self.dead or self.session.asks_no_more(call)

    def seal(self) -> bool:
        """TurnLink: nothing joins the turn any more, unless something is about to."""
        return self.session.seal()

    async def landed(self) -> None:
        """TurnLink: nothing is about to join."""
        landing = self._landing = asyncio.get_running_loop().create_future()
        await landing

    def _answer_landing(self) -> None:
        """Nothing is about to join any more."""
        landing, self._landing = self._landing, None
        if landing is not None and not landing.done():
            landing.set_result(None)

    def _start(self, _: fx.Start) -> None:
        """Build the agent where it is not warm, then run it."""
        if self._system.leaving:
            return
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
            spec = self._system.registry.get(state.opened.agent, state.opened.agent_version)
            self._agent = await self._system.builder.build(spec, self._info(state))
            self._spec = spec
        except Refusal as refusal:
            return self._unbuilt(state, refusal.code, refusal.text)
        except Exception as error:  # noqa: BLE001 (whatever a builder raises ends the turn, typed)
            return self._unbuilt(state, getattr(error, "code", Code.AGENT_ERROR), str(error))
        if self._still(state):
            self._execute(self._state(), self._agent)
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
            info = SessionInfo(tenant, session, opened.user, opened.agent, self._version(opened))
            known = self._known_info = (opened, info)
        return known[1]

    def _version(self, opened: Open) -> str:
        """The session's own; where it is not registered any more, the one that runs instead."""
        try:
            return self._system.registry.get(opened.agent, opened.agent_version).version
        except Refusal:
            return opened.agent_version

    def _execute(self, state: State, agent: Agent) -> None:
        assert state.open is not None
        job = Job(self._info(state), state.open, state.history, agent, self._open_emitter, self)
        spec = self._spec
        if spec is not None:
            job.max_reply_bytes, job.max_steps = spec.max_reply_bytes, spec.max_steps
            job.model, job.fallbacks, job.wants_profile = spec.model, spec.fallbacks, spec.profile
            job.instructions, job.tools = spec.instructions, spec.own_tools
            job.turn_cap = spec.turn_budget.cap if spec.turn_budget is not None else None
            job.session_cap = spec.session_budget.cap if spec.session_budget is not None else None
        job.kept, job.spent = state.kept, state.spent
        if state.open.seen is not None:
            job.history, job.kept = state.open.seen.history, state.open.seen.kept
        for turn in state.aside:
            job.spent = job.spent.plus(spent_by(turn, self._system.rules.prices))
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
            self._row += 1
            self._row_us += result.agent_us + result.model_us + result.tools_us + result.write_us
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
        return system.slots.waiting == 0 or (self._row < _IN_A_ROW and self._row_us < _QUANTUM_US)

    def _stop(self, order: fx.Stop) -> None:
        if self._run is not None:
            self._run.stop(order.by)
        else:
            self._ended(Result("cancelled", by=order.by))

    def _steer(self, order: fx.Steer) -> None:
        """Tell the agent, and whoever said it in a turn of its own."""
        note, running = order.note, self.session.running
        if self._run is not None:
            self._run.steer(note)
        if note.input is not None and running is not None:
            tenant, session = split_key(self.key)
            frame = Joined(
                session=session, turn=note.turn, attempt=0, seq=1, at_ms=note.at_ms, tenant=tenant, into=running
            )
            self._system.outbox.frame(self.key, encode(frame), self.session.destinations(note.turn))

    def _decided(self, order: fx.Decided) -> None:
        """Whoever watches sees who decided, right behind what asked for it."""
        note, turn = order.note, self._state().unended(order.note.turn)
        if turn is None or note.call is None:
            return
        self._system.metrics.count("decisions", "allow" if note.kind == "approve" else "deny")
        if turn.suspended is None:  # a call of it asks while it runs
            if self._run is not None:
                self._run.decided(note)
            return
        tenant, session = split_key(self.key)
        asked: dict[str, Any] = from_json(turn.suspended.frames[0])
        frame = ApprovalDecided(
            tenant=tenant,
            session=session,
            turn=turn.turn,
            attempt=turn.attempt,
            seq=asked["seq"] + 1,
            at_ms=note.at_ms,
            call=note.call,
            decision="allow" if note.kind == "approve" else "deny",
            by=note.by or note.user,
        )
        self._system.outbox.frame(self.key, encode(frame), self.session.destinations(turn.turn))

    def _show(self, _: fx.Show) -> None:
        if self._run is not None:
            turn = self._state().open
            steps = turn.steps if turn is not None else ()
            self._run.show("watch", max((step.step for step in steps if not step.run), default=-1))

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


def _unheard(_: Verdict) -> None:
    """A RELEASE that collides loses nothing."""
