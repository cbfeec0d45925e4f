"""The part of an actor that takes turns and control ops in. What does not fit into the session's mailbox waits behind
it, in the backlog, so that a session with many turns neither fills the memory nor pauses the partition of others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from journal.port import Timer
from workers import effects as fx
from workers.backlog import Backlog
from workers.partition import Partition
from workers.runs import Runs

if TYPE_CHECKING:
    from workers.system import ActorSystem


class Mailbox(Runs):
    """A turn in the backlog has not arrived yet, as far as decisions go. Where that would change what becomes of it or
    of others, all that waits is taken in first: a policy that looks at what waits, a command to a turn
    that waits there, the end of the session."""

    __slots__ = ("_backlog",)

    def __init__(self, key: str, partition: Partition, system: ActorSystem) -> None:
        super().__init__(key, partition, system)
        self._backlog: Backlog | None = None

    def turn(self, mail: fx.Mail, trigger: fx.Trigger) -> None:
        """A turn record came. One that comes after the hand-over is the next owner's, and so is a control record."""
        if self.dead:
            return
        if (self._backlog is not None or self.session.waiting >= self._system.session_mailbox) and self._put_aside(
            mail, trigger
        ):
            return
        self._tell(self.session.arrived(mail, trigger, self._system.clock_ms()))

    def control(self, op: fx.Op) -> None:
        """A control record came."""
        if self.dead:
            return
        if self._backlog is not None and self._concerned(self._backlog, op):
            self._take_in()
        self._tell(self.session.commanded(op, self._system.clock_ms()))

    def wake(self, timer: Timer, trigger: fx.Trigger) -> None:
        """A timer is due."""
        if not self.dead:
            self._tell(self.session.woken(timer, trigger, self._system.clock_ms()))

    def forget_backlog(self) -> None:
        """Its records come again, or go to somebody else."""
        backlog, self._backlog = self._backlog, None
        if backlog is not None:
            self._system.backlog_changed(self.partition, -len(backlog), -backlog.bytes)

    def _put_aside(self, mail: fx.Mail, trigger: fx.Trigger) -> bool:
        """Whether the turn waits in the backlog now. A copy of one that is known joins it at once."""
        if self._known(mail.id):
            return False
        opened = self.session.state.opened if self.session.state is not None else None
        if mail.policy(opened) != "enqueue":
            self._take_in()
            return False
        if self._backlog is None:
            self._backlog = Backlog(self._system.limits)
        before = self._backlog.bytes
        self._backlog.put(mail, trigger)
        self._system.backlog_changed(self.partition, 1, self._backlog.bytes - before)
        return True

    def _known(self, turn: str) -> bool:
        state = self.session.state
        if self.session.held(turn):
            return True
        return state is not None and (turn in state.ended_turns or state.unended(turn) is not None)

    @staticmethod
    def _concerned(backlog: Backlog, op: fx.Op) -> bool:
        control = op.record.control
        if control.kind in {"cancel", "steer"}:
            return backlog.holds(control.turn)
        return control.kind in {"delete", "expire"}

    def _refill(self) -> None:
        """The mailbox has room again."""
        if self.session.waiting <= self._system.session_mailbox // 2:
            self._take_in(self._system.session_mailbox)

    def _take_in(self, room: int | None = None) -> None:
        """Turns of the backlog arrive, in order, until `room` wait in the mailbox; None: all."""
        backlog, session, system = self._backlog, self.session, self._system
        while backlog and not self.dead and (room is None or session.waiting < room):
            before = backlog.bytes
            mail, trigger = backlog.take()
            system.backlog_changed(self.partition, -1, backlog.bytes - before)
            self._carry_out(session.arrived(mail, trigger, system.clock_ms()))
        if not backlog:
            self._backlog = None

    def _carry_out(self, orders: list[fx.Effect]) -> None:
        """Without looking at what waits afterwards."""
        raise NotImplementedError
