"""What is known of one session, as plain values: turn records, journal rows, frames, letters. No I/O, no judgement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from journal.port import Row

Place = tuple[str, int, int]
"""(bare topic, partition, offset)."""


class Marks(NamedTuple):
    """What holds for the whole cluster. `committed`: next offsets of the group on `agent.turns`, by partition, read
    before everything else;
    `replies_whole`: retention has taken no reply yet."""

    partitions: int
    committed: Mapping[int, int]
    replies_whole: bool = True


class TurnRecord(NamedTuple):
    """A record of `agent.turns`. `turn` None: nobody can read it."""

    partition: int
    offset: int
    turn: str | None


class FrameRecord(NamedTuple):
    """A record of `agent.replies`: the frame, decoded and as it travelled."""

    partition: int
    offset: int
    frame: Mapping[str, Any]
    raw: bytes


class Evidence(NamedTuple):
    """All of one session. `turns` in offset order by partition, `rows` by version, `frames` as they were read.

    `letters`: where records lie that are in the dead letters.
    """

    tenant: str
    session: str
    turns: list[TurnRecord]
    rows: list[Row]
    frames: list[FrameRecord]
    letters: frozenset[Place]
    marks: Marks
