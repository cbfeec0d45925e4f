"""The part of the proof about control ops: each is answered, and what the answer says came true. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from broker.partition import partition_of
from fleet.chaos.evidence import CONTROL, Command, Evidence
from fleet.chaos.fate import Fate
from fleet.chaos.finding import Found, Kind


def check_orders(seen: Evidence, fates: Mapping[str, Fate], found: Found) -> None:
    """Every op of one session."""
    if not seen.commands:
        return
    where = partition_of(seen.session.encode(), seen.marks.partitions)
    said = _acks(seen)
    for op, command in {command.op: command for command in seen.commands}.items():
        states = said.get(op, set())
        if not states and seen.marks.replies_whole and _taken(seen, op, where):
            found(Kind.NO_ACK, command.turn, f"{command.kind} {op}: its record is committed, no ack was published")
        if command.kind == "cancel" and command.turn is not None and states:
            _cancel(command, fates.get(command.turn), states, found)


def _acks(seen: Evidence) -> dict[str, set[str]]:
    said: dict[str, set[str]] = defaultdict(set)
    for record in seen.frames:
        if record.frame["type"] == "ack":
            said[record.frame["op"]].add(record.frame["state"])
    return said


def _taken(seen: Evidence, op: str, where: int) -> bool:
    """Whether a record of the op at its own place is committed and was not refused."""
    return any(
        command.op == op
        and command.partition == where
        and seen.committed(CONTROL, command.partition, command.offset)
        and (CONTROL, command.partition, command.offset) not in seen.letters
        for command in seen.commands
    )


def _cancel(command: Command, fate: Fate | None, states: set[str], found: Found) -> None:
    """`applied`, and `held` for a turn of the same user: it is cancelled, when it comes; `too_late`: it is over."""
    turn = command.turn
    if fate is None or fate.gone or len(fate.outcomes) > 1:
        return
    outcome = fate.outcomes[0].name if fate.outcomes else None
    cancelled, foreign = outcome == "cancelled", fate.user != command.user
    broken = {
        "too_late": outcome is None,
        "applied": not cancelled,
        "held": outcome is not None and not cancelled and not foreign,
    }
    if any(broken.get(state, False) for state in states):
        answers = ", ".join(sorted(states))
        what = f"cancel {command.op} was answered {answers}, the turn is {outcome or 'not over'}"
        found(Kind.CANCEL_BROKEN, turn, what)
