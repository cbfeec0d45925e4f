"""Everything at one moment: journal, logs, group, both workers. A value; what may happen next is `moves`."""

from __future__ import annotations

from typing import NamedTuple

from tests.explorer.driver import NOTHING
from tests.explorer.scope import NOW_MS, Scope
from tests.explorer.store import Journal

TURNS, CONTROL = 0, 1
NOT_READ = -1


class Marks(NamedTuple):
    """One stream of one assignment: everything below `position` is done, `done` holds what is done above it."""

    position: int = 0
    next: int = 0
    done: frozenset[int] = frozenset()

    def settled(self, offset: int) -> Marks:
        """`offset` is done, too."""
        done, position = self.done | {offset}, self.position
        while position in done and position < self.next:
            position += 1
        return Marks(position, self.next, frozenset(item for item in done if item >= position))


class Seat(NamedTuple):
    """A worker. `assigned`: it believes that the partition is its own; `current`: it has heard of the group's latest
    generation; `life`: how often it began anew with writes still under way; `read`: what was read for the open question
    and is not told yet, the number of a state mostly; `handed`: numbers of the timers that its session was told of."""

    bench: int = NOTHING
    assigned: bool = False
    current: bool = False
    life: int = 0
    marks: tuple[Marks, Marks] = (Marks(), Marks())
    handed: frozenset[int] = frozenset()
    read: int = NOT_READ


class Late(NamedTuple):
    """A write under way whose sender has no answer."""

    worker: int
    version: int
    row: int


class Ended(NamedTuple):
    """The outcome of a turn, as it was written first. `ran`: by a FINISH, its frame has a place in the order."""

    turn: str
    outcome: str
    frame: str
    ran: bool


class World(NamedTuple):
    """`committed`: offsets of turns and control, as far as it matters: the owner may have committed its position too.
    `said`: how many commands clients have sent; `acks`: (op, state). `timers`: numbers of those that are armed;
    `asked`: calls for which the user was asked."""

    journal: Journal
    owner: int
    seats: tuple[Seat, Seat]
    committed: tuple[int, int]
    said: int
    late: tuple[Late, ...]
    ended: tuple[Ended, ...]
    published: frozenset[str]
    acks: frozenset[tuple[str, str]]
    budget: tuple[int, ...]
    used: int
    now_ms: int
    timers: frozenset[int] = frozenset()
    asked: frozenset[str] = frozenset()

    def seated(self, worker: int, **fields: object) -> World:
        """With a change at one worker."""
        seat = self.seats[worker]._replace(**fields)  # type: ignore[arg-type]
        return self._replace(seats=(seat, self.seats[1]) if worker == 0 else (self.seats[0], seat))

    def member(self, worker: int) -> bool:
        """Whether the group takes a commit of this worker."""
        return self.owner == worker and self.seats[worker].current

    @property
    def position(self) -> tuple[int, int]:
        """What is committed, sooner or later."""
        seat = self.seats[self.owner]
        return (seat.marks[TURNS].position, seat.marks[CONTROL].position) if seat.current else self.committed

    @property
    def commits(self) -> int:
        """How many commits may have been the last one."""
        (turns, control), (to_turns, to_control) = self.committed, self.position
        return (to_turns - turns + 1) * (to_control - control + 1)

    def committing(self, which: int) -> World:
        """After one of these commits."""
        turns, control = divmod(which, self.position[CONTROL] - self.committed[CONTROL] + 1)
        return self._replace(committed=(self.committed[TURNS] + turns, self.committed[CONTROL] + control))

    def outcome(self, turn: str) -> Ended | None:
        """How a turn ended, if it has."""
        return next((ended for ended in self.ended if ended.turn == turn), None)


def first(scope: Scope) -> World:
    """Nothing has happened; worker 0 will be told that the partition is its own."""
    return World((), 0, (Seat(), Seat()), (0, 0), 0, (), (), frozenset(), frozenset(), scope.budget, 0, NOW_MS)
