"""What is known of one session, as plain values: records, journal rows, frames, letters. No I/O, no judgement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from journal.port import Row

TURNS, CONTROL, REPLIES, LETTERS = "agent.turns", "agent.control", "agent.replies", "agent.dead-letters"
Place = tuple[str, int, int]
"""(bare topic, partition, offset)."""


class Marks(NamedTuple):
    """What holds for the whole cluster. `committed`: next offsets of the group, by (topic, partition), read before
    everything else; `replies_whole`: retention has taken no reply yet; `settled`: the load is over, so a turn that has
    not ended is a breach as well; `tries`: how often in a row a turn may be claimed without anything durable."""

    partitions: int
    committed: Mapping[tuple[str, int], int]
    replies_whole: bool = True
    settled: bool = False
    tries: int = 3


class TurnRecord(NamedTuple):
    """A record of `agent.turns`, as far as it can be read."""

    partition: int
    offset: int
    turn: str
    user: str


class Command(NamedTuple):
    """A record of `agent.control`, as far as it can be read. `turn` None: of the whole session."""

    partition: int
    offset: int
    op: str
    kind: str
    turn: str | None
    user: str


class FrameRecord(NamedTuple):
    """A record of `agent.replies`: the frame, decoded and as it travelled."""

    partition: int
    offset: int
    frame: Mapping[str, Any]
    raw: bytes


class Saved(NamedTuple):
    """A stored snapshot: the state at `version`; `items`: how many messages, the last of them in `tail`, as they are
    stored."""

    version: int
    turns: int
    items: int
    tail: Sequence[Mapping[str, Any]]


class Evidence(NamedTuple):
    """All of one session. `turns` and `commands` in offset order by partition, `rows` by version, `frames` in offset
    order by partition. `letters`: the code of the dead letter of the record that lies there."""

    tenant: str
    session: str
    marks: Marks
    turns: Sequence[TurnRecord] = ()
    commands: Sequence[Command] = ()
    rows: Sequence[Row] = ()
    frames: Sequence[FrameRecord] = ()
    letters: Mapping[Place, str] = MappingProxyType({})
    saved: Saved | None = None

    def committed(self, topic: str, partition: int, offset: int) -> bool:
        """Whether the group will not read this record again."""
        return offset < self.marks.committed.get((topic, partition), 0)


def events_of(evidence: Evidence, turn: str) -> list[str]:
    """What is known of a turn, in order: records, commands, entries, then frames."""
    told = [
        _record(evidence, TURNS, record.partition, record.offset, "record")
        for record in evidence.turns
        if record.turn == turn
    ]
    told += [
        _record(evidence, CONTROL, command.partition, command.offset, f"{command.kind} {command.op}")
        for command in evidence.commands
        if command.turn == turn
    ]
    name = f'"{turn}"'
    for row in evidence.rows:
        if row.turn == turn or (row.body is not None and name in row.body):
            told.append(f"journal v{row.v} {row.kind.upper()} at {row.at_ms} nonce {row.nonce}")
    frames = [record for record in evidence.frames if record.frame.get("turn") == turn]
    for record in sorted(frames, key=_place):
        frame = record.frame
        what = f"attempt {frame.get('attempt')} seq {frame.get('seq')}" if "attempt" in frame else frame.get("state")
        told.append(f"{REPLIES}/{record.partition}@{record.offset} {frame.get('type')} {what}")
    return told


def _record(evidence: Evidence, topic: str, partition: int, offset: int, what: str) -> str:
    letter = evidence.letters.get((topic, partition, offset))
    committed = " committed" if evidence.committed(topic, partition, offset) else ""
    return f"{topic}/{partition}@{offset} {what}{committed}" + (f" dead letter {letter}" if letter else "")


def _place(record: FrameRecord) -> tuple[int, int]:
    return record.frame.get("attempt", 0), record.frame.get("seq", 0)
