"""Questions of a session's decisions that take a while: asked of store and group, answered to the session. Decides
nothing; an answer that comes after the partition was lost (`dead`) is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from broker.port import Acked
from journal.loader import Loaded, read_on
from journal.port import StoreUnavailable, Timer
from journal.state import State
from journal.sweeping import bury_first, too_old
from journal.turns import Ended, terminal_of, turn_view
from journal.wiping import wipe
from schemas.ids import split_key
from workers import effects as fx
from workers.agent import Agent, AgentSpec
from workers.archive import Archive
from workers.letters import Fault, fault_of_view, letter_of, record_of
from workers.line import Line
from workers.outbox import Countdown
from workers.partition import TURNS, Partition
from workers.session import Session

if TYPE_CHECKING:
    from workers.system import ActorSystem

_RETRY_S = 0.5


class Questions:
    """The part of an actor that waits: reads are repeated until the store answers."""

    __slots__ = ("_agent", "_archive", "_repeats", "_spec", "_system", "dead", "key", "partition", "session")

    def __init__(self, key: str, partition: Partition, system: ActorSystem) -> None:
        self.key = key
        self.partition = partition
        self.session = Session(key, system.rules, floor=partition.marks[TURNS].position)
        self.dead = False
        self._system = system
        self._archive = Archive()
        self._repeats: Line[fx.Republish] = Line()
        self._agent: Agent | None = None
        self._spec: AgentSpec | None = None

    def _tell(self, orders: list[fx.Effect]) -> None:
        """Carry out what the session's decisions ask for."""
        raise NotImplementedError

    def _published(self, turn: str, error: Exception | None = None) -> None:
        """A publication of the terminal frame of `turn` was acknowledged."""
        raise NotImplementedError

    def _state(self) -> State:
        assert self.session.state is not None
        return self.session.state

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
        loading = self._system.loading
        loaded = await loading.load(self.key)
        if too_old(loaded.state, self._system.clock_ms(), self._system.keep_keys_s):
            await bury_first(self._system.store, self.key, loaded.state)
            loaded = await loading.load(self.key)
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

    def _arm(self, order: fx.Arm) -> None:
        self._system.spawn(self._armed(order), f"arm {self.key}")

    async def _armed(self, order: fx.Arm) -> None:
        timer = Timer(self.key, order.turn, order.call, order.due_ms, self.partition.number)
        await self._patiently(lambda: self._system.store.timers.arm([timer]))
        if not self.dead:
            self._tell(self.session.armed(self._system.clock_ms()))

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
        self._repeats.append(order)
        if len(self._repeats) == 1:
            self._system.spawn(self._republish_all(), f"republish {self.key}")

    async def _republish_all(self) -> None:
        """One after the other: read side by side, a later turn's frame could be out before an earlier one's."""
        while self._repeats and not self.dead:
            await self._republished(self._repeats[0])
            self._repeats.popleft()

    async def _republished(self, order: fx.Republish) -> None:
        """The verbatim frame of a turn that is over; nothing where a CLOSE took its content. Where nobody has asked for
        it here, it goes to whoever it was claimed for."""
        journal = self._system.store.journal
        ended = await self._patiently(lambda: terminal_of(journal, self.key, order.turn))
        fault = await self._fault_of(order.turn, ended)
        if self.dead:
            return
        if ended is None or ended.frame is None:
            self._published(order.turn)
        else:
            to = frozenset(ended.reply_to if place is None else place for place in order.to)
            self._terminal(ended.frame, to, fault, lambda error: self._published(order.turn, error))

    async def _fault_of(self, turn: str, ended: Ended | None) -> Fault | None:
        """What a dead letter needs: whoever wrote the FINISH may have died before the letter was out."""
        if ended is None or ended.frame is None or '"type":"failed"' not in ended.frame:
            return None
        journal = self._system.store.journal
        view = await self._patiently(lambda: turn_view(journal, self.key, turn))
        return fault_of_view(view) if view is not None else None

    def _terminal(self, frame: str, to: frozenset[str | None], fault: Fault | None, acked: Acked) -> None:
        """Publish a terminal frame, and the dead letter of a turn that ended by its own fault; `acked` after both."""
        if fault is not None:
            acked = Countdown(2, acked)
            self._letter(fault, acked)
        self._system.outbox.frame(self.key, frame.encode(), to, acked)

    def _letter(self, fault: Fault, acked: Acked) -> None:
        system, opened = self._system, self._state().opened
        held = (trigger.record for trigger in self.session.held(fault.turn))
        record = record_of(fault, held, system.consumer.name(TURNS))
        tenant, session = split_key(self.key)
        letter = letter_of(fault, record, tenant=tenant, agent=opened.agent if opened is not None else None)
        system.outbox.letter(session.encode(), letter.value, letter.headers, acked)

    async def _patiently(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Repeat a read until the store answers; None once the session is lost."""
        while not self.dead:
            try:
                return await call()
            except StoreUnavailable:
                await asyncio.sleep(_RETRY_S)
        return None
