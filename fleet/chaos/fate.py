"""What the journal says became of a turn. Plain values; who finds them out is `fleet.chaos.chain`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Body = Mapping[str, Any]


class Outcome(NamedTuple):
    """How a turn ended, by which version. `frame`: the stored terminal frame, None where a CLOSE has unset it; `kept`:
    messages that joined the history, None where the turn never ran or was rolled back; `ran`: it ended by a FINISH."""

    version: int
    name: str
    frame: str | None = None
    kept: Sequence[Body] | None = None
    ran: bool = False


class Fate:
    """`introduced`: the version that made the turn known; `began`: of its first CLAIM, which was for the record at
    `claimed_at` (an offset); `waits`: suspended or parked; `released`:
    it was once, and its record may be committed since; `joined`: it steers another one; `first`: it was redriven
    and went before what waited; `gone`: its content is unset; `steps`: the numbers of those that are journaled."""

    __slots__ = (
        "began",
        "claimed_at",
        "first",
        "gone",
        "introduced",
        "joined",
        "outcomes",
        "released",
        "steps",
        "user",
        "waits",
    )

    def __init__(self) -> None:
        self.introduced: int | None = None
        self.began: int | None = None
        self.claimed_at = -1
        self.user: str | None = None
        self.waits = self.released = False
        self.joined = False
        self.first = False
        self.gone = False
        self.steps: set[tuple[str, int]] = set()
        self.outcomes: list[Outcome] = []

    @property
    def over(self) -> bool:
        """It has ended, as far as can be known."""
        return bool(self.outcomes) or self.gone
