"""What the journal knows of one turn: its terminal frame, or everything. Reads entries; knows no socket, no agent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal, NamedTuple

from pydantic_core import from_json

from journal.port import Journal, Row
from journal.state import State
from schemas.codes import Code
from schemas.entries import (
    Claim,
    Close,
    ControlNote,
    Entry,
    Finish,
    Outcome,
    Park,
    Position,
    Settle,
    Step,
    Suspend,
    entry_of,
)
from schemas.receipt import Receipt
from schemas.turn import TurnInput

TurnState = Literal["queued", "running", "suspended", "completed", "failed", "cancelled"]
_PAGE = 64


class Ended(NamedTuple):
    """A turn that is over by entry `version`. `outcome` and `frame` (JSON text) are None where a CLOSE unset them.
    `reply_to`: who it was claimed for last."""

    version: int
    outcome: Outcome | None
    frame: str | None
    reply_to: str | None = None


class TurnView(NamedTuple):
    """A turn as the journal has it. `input` is None for one that was settled before it ran.

    `attempt` 0: never claimed. `steps`: durable ones of all attempts. `into`: the turn that it joined, if it steers.
    `frame`: the terminal one, JSON text. `suspended`: what is awaited, while it is. `version`: of the latest entry.
    `position`: of the record that it was first claimed for.
    """

    turn: str
    user: str
    state: TurnState
    version: int
    input: TurnInput | None = None
    attempt: int = 0
    steps: tuple[Step, ...] = ()
    began_ms: int = 0
    deadline_ms: int | None = None
    into: str | None = None
    frame: str | None = None
    receipt: Receipt | None = None
    suspended: Suspend | None = None
    outcome: Outcome | None = None
    position: Position | None = None

    @property
    def code(self) -> Code | None:
        """Why it failed, if it did."""
        return Code(from_json(self.frame)["code"]) if self.outcome == "failed" and self.frame is not None else None


async def terminal_of(journal: Journal, s: str, turn: str) -> Ended | None:
    """How `turn` ended, by the entry that says so. None: unknown, or not over. Raises StoreUnavailable."""
    introduced = await journal.introduced(s, turn)
    if introduced is None:
        return None
    reply_to: str | None = None
    async for row in _rows_from(journal, s, introduced):
        if row.body is not None and row.kind in ("claim", "control", "park", "finish", "settle", "close"):
            entry = entry_of(row.kind, row.body, row.frames)
            ended = _ended(row, entry, turn)
            if ended is not None:
                return ended._replace(reply_to=reply_to)
            claim = entry.claim if isinstance(entry, Finish) else entry
            if isinstance(claim, Claim | ControlNote | Park) and claim.turn == turn:
                reply_to = claim.reply_to or reply_to
        if row.kind == "close":
            return Ended(row.v, None, None)
    return None


async def turn_view(journal: Journal, s: str, turn: str, *, since: int = 0) -> TurnView | None:
    """Everything about `turn`. None: unknown, or its content is gone with its session. Raises StoreUnavailable.

    `since`: `living_since` of the session's state: what was introduced before it belongs to a life that was closed.
    """
    introduced = await journal.introduced(s, turn)
    if introduced is None or introduced < since:
        return None
    view: TurnView | None = None
    async for row in _rows_from(journal, s, introduced):
        if row.kind == "close":
            return None
        if row.body is None:
            return None
        entry = entry_of(row.kind, row.body, row.frames)
        view = _introduced(row, entry, turn) if view is None else _followed(view, row, entry)
        if view is None or view.outcome is not None:
            return view
    return view


def living_since(state: State) -> int:
    """The first version that belongs to the session's present life, or to the time after its last one."""
    closed = state.closed.version if state.closed is not None else 0
    return state.base if state.opened is not None and state.base > closed else closed + 1


async def _rows_from(journal: Journal, s: str, v: int) -> AsyncIterator[Row]:
    after = v - 1
    while True:
        page = await journal.read(s, after, _PAGE)
        for row in page:
            yield row
        if len(page) < _PAGE:
            return
        after = page[-1].v


def _ended(row: Row, entry: Entry, turn: str) -> Ended | None:
    """Whether this entry ends `turn`; its frame is the one that names the turn."""
    if isinstance(entry, Finish):
        if turn in entry.joined:
            return Ended(row.v, "completed", _frame_of(row, turn))
        return Ended(row.v, entry.outcome, _frame_of(row, turn)) if entry.turn == turn else None
    if isinstance(entry, Settle):
        return Ended(row.v, entry.outcome, _frame_of(row, turn)) if entry.turn == turn else None
    if isinstance(entry, Close) and turn in entry.ended:
        return Ended(row.v, "cancelled", _frame_of(row, turn))
    return None


def _frame_of(row: Row, turn: str) -> str | None:
    return next((text for text in row.frames if from_json(text).get("turn") == turn), None)


def _introduced(row: Row, entry: Entry, turn: str) -> TurnView | None:
    claim = entry.claim if isinstance(entry, Finish) else entry
    if isinstance(claim, Claim):
        return TurnView(
            turn=turn,
            user=claim.user,
            state="running",
            version=row.v,
            input=claim.input,
            attempt=claim.attempt,
            began_ms=claim.at_ms,
            deadline_ms=claim.deadline_ms,
            position=claim.position,
        )
    if isinstance(claim, Park):
        deadline_ms, given = claim.deadline_ms, claim.input
        return TurnView(turn, claim.user, "queued", row.v, given, began_ms=claim.at_ms, deadline_ms=deadline_ms)
    if isinstance(claim, ControlNote):
        return TurnView(turn, claim.user, "running", row.v, claim.input, began_ms=claim.at_ms)
    if isinstance(claim, Settle):
        return _over(TurnView(turn, claim.user, claim.outcome, row.v, began_ms=claim.at_ms), row, claim)
    return None


def _followed(view: TurnView, row: Row, entry: Entry) -> TurnView:
    if isinstance(entry, Finish | Settle):
        view = _over(view, row, entry)
    claim = entry.claim if isinstance(entry, Finish) else entry
    if isinstance(claim, Claim) and claim.turn == view.turn:
        return view._replace(
            state="running",
            attempt=claim.attempt,
            deadline_ms=claim.deadline_ms,
            version=row.v,
            suspended=None,
            position=view.position or claim.position,
        )
    if isinstance(entry, Step) and entry.turn == view.turn:
        return view._replace(steps=(*view.steps, entry), version=row.v)
    if isinstance(entry, ControlNote) and view.suspended is not None and entry.call == view.suspended.call:
        return view._replace(state="running", version=row.v)
    if isinstance(entry, Suspend) and entry.turn == view.turn:
        return view._replace(state="suspended", suspended=entry, version=row.v)
    return view


def _over(view: TurnView, row: Row, entry: Finish | Settle) -> TurnView:
    ended = _ended(row, entry, view.turn)
    if ended is None or ended.outcome is None:
        return view
    joined = isinstance(entry, Finish) and entry.turn != view.turn
    return view._replace(
        state=ended.outcome,
        outcome=ended.outcome,
        version=row.v,
        frame=ended.frame,
        into=entry.turn if joined else None,
        receipt=entry.receipt if isinstance(entry, Finish) and not joined else None,
        suspended=None,
    )
