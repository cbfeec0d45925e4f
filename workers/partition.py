"""What a worker holds of one partition it owns: watermarks of this assignment, sessions at work. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.watermark import Watermark

if TYPE_CHECKING:
    from workers.actor import Actor

TURNS, CONTROL = "agent.turns", "agent.control"


class Partition:
    """Number `number` of turns and control alike. A new assignment renews the watermarks; the sessions stay."""

    __slots__ = ("actors", "floor", "generation", "marks", "number", "owned", "paused", "waiting")

    def __init__(self, number: int, generation: int, offsets: dict[str, int]) -> None:
        self.number = number
        self.floor = offsets[TURNS]
        self.actors: dict[str, Actor] = {}
        self.waiting = 0
        self.paused = False
        self.owned = True
        self.renew(generation, offsets)

    def renew(self, generation: int, offsets: dict[str, int]) -> None:
        """Kept in a new assignment: records come again from these offsets, marks of the old ones count no more."""
        self.generation = generation
        self.marks = {stream: Watermark(start) for stream, start in offsets.items()}

    def positions(self) -> dict[tuple[str, int], int]:
        """What may be committed."""
        return {(stream, self.number): mark.position for stream, mark in self.marks.items()}
