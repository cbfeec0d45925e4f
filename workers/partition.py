"""What a worker holds of one partition it owns: watermarks of this assignment, sessions at work. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from broker.watermark import Watermark

if TYPE_CHECKING:
    from workers.actor import Actor

TURNS, CONTROL = "agent.turns", "agent.control"


class Partition:
    """Number `number` of turns and control alike. A new assignment renews the watermarks; the sessions stay.

    `settle[stream]` takes the offset of a record that needs no more work, in the watermark of the assignment that the
    record came with; `moved` is told then.
    """

    __slots__ = (
        "_moved",
        "actors",
        "backlog",
        "backlog_bytes",
        "generation",
        "marks",
        "number",
        "owned",
        "paused",
        "settle",
        "waiting",
    )

    def __init__(
        self, number: int, generation: int, offsets: dict[str, int], moved: Callable[[Partition], None]
    ) -> None:
        self.number = number
        self._moved = moved
        self.actors: dict[str, Actor] = {}
        self.waiting = self.backlog = self.backlog_bytes = 0
        self.paused = False
        self.owned = True
        self.renew(generation, offsets)

    def renew(self, generation: int, offsets: dict[str, int]) -> None:
        """Kept in a new assignment: records come again from these offsets, marks of the old ones count no more."""
        self.generation = generation
        self.marks = {stream: Watermark(start) for stream, start in offsets.items()}
        self.settle = {stream: self._settler(marks) for stream, marks in self.marks.items()}
        for actor in self.actors.values():
            actor.forget_backlog()

    def _settler(self, marks: Watermark) -> Callable[[int], None]:
        def settle(offset: int) -> None:
            marks.done(offset)
            self._moved(self)

        return settle

    @property
    def stretched(self) -> int:
        """Turn records since the oldest that is not settled: they are kept in mind, and come again after a crash."""
        return self.marks[TURNS].waiting

    def positions(self) -> dict[tuple[str, int], int]:
        """What may be committed."""
        return {(stream, self.number): mark.position for stream, mark in self.marks.items()}
