"""A session's folded state as it is stored: derived, disposable, written only at rest (no turn open or parked).

The history is cut into chunks at places that depend on the history alone; full chunks are stored once, the snapshot
holds only the last, unfinished one, so that what a snapshot costs does not grow with the session.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field, JsonValue

from schemas.base import Frozen
from schemas.entries import Open, Outcome
from schemas.history import HistoryItem
from schemas.receipt import Spending


class EndedTurn(NamedTuple):
    """A turn that is over, as the state remembers it; its frame lies in the entry `version`. In JSON an array.

    `offset`: its record's place on its partition of `agent.turns`, -1 where it had none of its own. `held`: that was
    marked long before the turn ended, for the journal held the turn (suspended, parked): nobody but its session's owner
    publishes its frame.
    """

    turn: str
    outcome: Outcome
    version: int
    digest: str
    offset: int = -1
    held: bool = False


class SeenOp(Frozen):
    """A control op that was carried out or written down. `user`: who said it, where its entry says so: before a session
    is opened, anybody's may be written down, and an op id of another user's is no word of this one."""

    op: str
    user: str | None = None
    turn: str | None = None
    version: int


class AheadCancel(Frozen):
    """A cancel whose turn has not come."""

    turn: str
    user: str
    op: str


class Closed(Frozen):
    """The last CLOSE."""

    version: int
    reason: Literal["delete", "expire"]
    at_ms: int


class Chunk(Frozen):
    """A full piece of a session's history: number `index` of the life that began at version `base`; `first`: how many
    items lie before it."""

    base: int
    index: int
    first: int = 0
    items: tuple[HistoryItem, ...]


class Snapshot(Frozen):
    """The state at `version`. `base`: the version that opened this life; `chunks` full ones with `sealed` items in all
    lie before `items`."""

    version: int
    base: int
    opened: Open | None
    turns: int
    last_ms: int
    chunks: int
    sealed: int = 0
    items: tuple[HistoryItem, ...]
    over: tuple[EndedTurn, ...] = ()
    ops: tuple[SeenOp, ...] = ()
    ahead: tuple[AheadCancel, ...] = ()
    closed: Closed | None = None
    kept: dict[str, JsonValue] = Field(default_factory=dict)
    spent: Spending = Spending()
