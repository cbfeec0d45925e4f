"""A session at work: carries out what its decisions ask for and tells them what became of it. Decides nothing itself.

Order of effects: an entry is durable before its frame is published, a frame is acknowledged before its trigger is
marked. Answers that come after the partition was lost (`dead`) are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import JsonValue

from journal.history import weight_of
from journal.port import Verdict
from journal.rows import row_of
from schemas.entries import Claim, Close, Entry, Finish, Intent, Settle, Step, Suspend
from workers import effects as fx
from workers.ledger.booking import unfinished
from workers.mailbox import Mailbox
from workers.outbox import noted
from workers.partition import Partition
from workers.runs import Runs

if TYPE_CHECKING:
    from workers.system import ActorSystem


class Actor(Mailbox):
    """Session, agent instance and mailbox."""

    __slots__ = ("_append_s", "_append_size", "_pending", "_waited", "_weighed", "listed_ms")

    def __init__(self, key: str, partition: Partition, system: ActorSystem) -> None:
        super().__init__(key, partition, system)
        self.listed_ms = 0
        self._append_size = 0
        self._pending: Entry | None = None
        self._append_s = 0.0
        self._waited = 0
        self._weighed: tuple[Mapping[str, JsonValue], int] = ({}, 0)  # what was kept, and its weight

    # ---- facts from outside

    def lost(self, release: bool) -> None:
        """The partition is somebody else's: no frame, and no entry but RELEASE, best effort."""
        if self.dead:
            return
        entry = self.session.release_entry(self._system.clock_ms()) if release else None
        self._drop_run()
        self.dead = True
        self.forget_backlog()
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
        if self._backlog is not None:
            self._refill()
        if self._landing is not None and not session.joining:
            self._answer_landing()
        if (waiting := len(session.mail) + len(session.inbox)) != self._waited:
            self._system.waiting_changed(self.partition, waiting - self._waited)
            self._waited = waiting
        if session.running is None and not waiting and session.idle and not self.dead:
            self._system.rest(self)
        elif self._system.leaving and self._system.slots.has(self.key):
            self.hand_over()

    def _carry_out(self, orders: list[fx.Effect]) -> None:
        acts = self._ACTS
        for order in orders:
            acts[type(order)](self, order)

    @property
    def weight(self) -> int:
        """Bytes that this session takes while warm, about."""
        state = self.session.state
        if state is None:
            return 4_096
        if self._weighed[0] is not state.kept:  # a turn that keeps something makes a new one
            self._weighed = state.kept, weight_of(state.kept)
        return 4_096 + state.history.size + self._weighed[1]

    def _append(self, order: fx.Append) -> None:
        row = row_of(self.key, order.version, order.entry, self._system.nonce())
        self._pending, self._append_s = order.entry, self._system.clock_s()
        self._append_size = self._system.commit.append(row, self._verdict)

    def _verdict(self, verdict: Verdict) -> None:
        """The answer to the append in flight."""
        if self.dead:
            return
        entry, self._pending = self._pending, None
        assert entry is not None
        if verdict is Verdict.APPLIED:
            self._applied(entry)
        elif verdict is Verdict.KNOWN:
            self._system.metrics.count("known")
            self._tell(self.session.known(self._system.clock_ms()))
        else:
            self._system.metrics.count("collisions")
            self._system.spawn(self._collided(), f"collision {self.key}")

    def _applied(self, entry: Entry) -> None:
        self._archive.tail_bytes += self._append_size
        took_s = self._system.clock_s() - self._append_s
        if isinstance(entry, Finish):
            self._finished(entry, took_s)
        elif isinstance(entry, Claim):
            self._system.metrics.hops["claim"].observe(took_s)
        elif isinstance(entry, Step | Intent) and self._steps:
            durable = self._steps.popleft()
            if not durable.done():
                durable.set_result(None)
        elif isinstance(entry, Suspend):
            self._system.metrics.count("suspends")  # whoever waits for it is abandoned, or has been stopped
        elif isinstance(entry, Settle):
            self._system.metrics.count("turns", entry.outcome)
        elif isinstance(entry, Close):
            self._ended_unbooked(entry.at_ms)
        now_ms = self._system.clock_ms()
        orders = self.session.applied(now_ms)
        if now_ms - self.listed_ms > self._system.relist_ms or isinstance(entry, Close):
            self._list(now_ms)
        self._tell(orders)
        if isinstance(entry, Step | Finish):
            self._system.slots.eased(self.key)
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
        system.metrics.hops["run"].observe((hops.model_us + hops.tools_us + hops.write_us + hops.agent_us) / 1e6)
        ended = state.unended(entry.turn)
        if receipt.model_calls and ended is not None:
            system.count_models(receipt, ended.began_ms)
        if system.turn_log.enabled:
            system.turn_log.ended(receipt, version=state.version + 1, finish_us=int(took_s * 1e6))

    def _ended_unbooked(self, now_ms: int) -> None:
        """A CLOSE ended what had begun: no FINISH holds its receipt, so it is only published."""
        system, state = self._system, self.session.state
        if state is None:
            return
        for turn in state.begun:
            receipt = unfinished(self.key, state, turn, now_ms=now_ms, prices=system.rules.prices)
            system.outbox.receipt(receipt)
            if receipt.model_calls:
                system.count_models(receipt, turn.began_ms)

    # ---- slots, publishing, marking

    def _want_slot(self, _: fx.WantSlot) -> None:
        self._system.slots.want(self)

    def _free_slot(self, _: fx.FreeSlot) -> None:
        self._system.slots.give_back(self.key)

    def _publish(self, order: fx.Publish) -> None:
        system, turn, since_s = self._system, order.turn, self._system.clock_s()

        def acked(error: Exception | None) -> None:  # for every turn: `_published` and `_acked` written out
            system.metrics.hops["publish"].observe(system.clock_s() - since_s)
            if error is None and not self.dead:
                self._tell(self.session.published(turn, system.clock_ms()))
            else:
                self._published(turn, error)

        self._terminal(order.frame, order.to, order.fault, acked)

    def _published(self, turn: str, error: Exception | None = None) -> None:
        noted(error)
        if not self.dead or self._handed:
            self._acked(self.session.published(turn, self._system.clock_ms()))

    def _reply(self, order: fx.Reply) -> None:
        def acked(error: Exception | None) -> None:
            noted(error)
            if not self.dead or self._handed:
                self._acked(self.session.replied(order.trigger, self._system.clock_ms()))

        self._system.outbox.ack(self.key, order.ack, order.trigger.reply_to, acked)

    def _request(self, order: fx.Request) -> None:
        def acked(error: Exception | None) -> None:
            noted(error)
            if not self.dead or self._handed:
                self._acked(self.session.requested(order.turn, order.call, self._system.clock_ms()))

        self._system.outbox.frame(self.key, order.frame.encode(), order.to, acked)

    def _acked(self, orders: list[fx.Effect]) -> None:
        """What follows from an acknowledgement of the broker; after the hand-over nothing but the marks."""
        self._tell([order for order in orders if isinstance(order, fx.Acknowledge)] if self.dead else orders)

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
        fx.Load: Runs._load,
        fx.Look: Runs._look,
        fx.Prove: Runs._prove,
        fx.Find: Runs._find,
        fx.Arm: Runs._arm,
        fx.Append: _append,
        fx.Wipe: Runs._wipe,
        fx.Start: Runs._start,
        fx.Stop: Runs._stop,
        fx.Show: Runs._show,
        fx.Steer: Runs._steer,
        fx.Abandon: Runs._abandon,
        fx.WantSlot: _want_slot,
        fx.FreeSlot: _free_slot,
        fx.Publish: _publish,
        fx.Republish: Runs._republish,
        fx.Request: _request,
        fx.Decided: Runs._decided,
        fx.Reply: _reply,
        fx.Acknowledge: _acknowledge,
        fx.Refuse: _refuse,
    }
