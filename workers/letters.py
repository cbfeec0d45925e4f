"""The dead letter of a turn that ended by its own fault: from its record where one is held here, else from the journal.
Pure; publishes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pydantic_core import from_json

from broker.port import Record
from journal.state import OpenTurn
from journal.turns import TurnView
from schemas.codec import Headers, encode_turn
from schemas.codes import Code
from schemas.dead_letter import FAULTS, DeadLetter
from schemas.entries import Position
from schemas.ids import letter_id
from schemas.turn import TurnInput, turn_of


class Fault(NamedTuple):
    """A turn that ran and failed, as the journal has it. `position`: of the record that its first CLAIM was for, so
    that every copy of its letter names the same place; `attempts`: how often it was claimed."""

    turn: str
    user: str
    given: TurnInput
    position: Position
    attempts: int
    deadline_ms: int | None
    code: Code
    reason: str


class Letter(NamedTuple):
    """What is published beside the key."""

    value: bytes | None
    headers: Headers


def fault_of_open(turn: OpenTurn, code: Code, reason: str) -> Fault | None:
    """Of a turn that fails now; None: not by a fault of its own."""
    if code not in FAULTS:
        return None
    return Fault(turn.turn, turn.user, turn.input, turn.position, turn.attempt, turn.deadline_ms, code, reason)


def fault_of_view(view: TurnView) -> Fault | None:
    """Of a turn that failed before; None: it is no such turn."""
    code = view.code
    if code is None or code not in FAULTS or view.frame is None or view.attempt == 0:
        return None
    if view.input is None or view.position is None:
        return None
    reason = from_json(view.frame)["message"]
    return Fault(view.turn, view.user, view.input, view.position, view.attempt, view.deadline_ms, code, reason)


def id_of(position: Position) -> str:
    """The id of the dead letter of a turn whose record lies there."""
    return letter_id(position.stream, position.partition, position.offset, position.timestamp_ms)


def letter_of(fault: Fault, record: Record | None, *, tenant: str, agent: str | None) -> Letter:
    """`record`: a turn record of it that is held here; `agent`: whose session it is."""
    place = fault.position
    head = DeadLetter(
        code=fault.code,
        reason=fault.reason,
        topic=place.stream,
        partition=place.partition,
        offset=place.offset,
        attempts=fault.attempts,
        timestamp_ms=place.timestamp_ms,
    ).headers()
    if record is not None:
        return Letter(record.value, [*head, *record.headers])
    rebuilt = turn_of(
        fault.given,
        turn=fault.turn,
        tenant=tenant,
        user=fault.user,
        agent=agent,
        deadline_ms=fault.deadline_ms,
    )
    return Letter(encode_turn(rebuilt), head)


def record_of(fault: Fault, held: Iterable[Any], topic: str) -> Record | None:
    """Of the records held, the one at the turn's own place, else a copy of it. `topic`: as the cluster names it."""
    copies: list[Record] = [record for record in held if record.topic == topic]
    place = (fault.position.partition, fault.position.offset)
    return next((one for one in copies if (one.partition, one.offset) == place), copies[0] if copies else None)
