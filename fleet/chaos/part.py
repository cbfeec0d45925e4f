"""One part of the spilled evidence: read, decoded, grouped by session, judged. Runs in a process of its own if asked.

What cannot be read is judged here: it belongs to no session's turn.
"""

from __future__ import annotations

import contextlib
import gc
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from fleet.chaos.checker import check
from fleet.chaos.evidence import (
    CONTROL,
    LETTERS,
    REPLIES,
    TURNS,
    Command,
    Evidence,
    FrameRecord,
    Marks,
    Place,
    Saved,
    TurnRecord,
)
from fleet.chaos.finding import Finding, Kind, Verdict
from fleet.chaos.spill import items_of
from fleet.letter import Original, read_letter
from journal.port import Row
from schemas.codec import Headers, decode_control, decode_turn
from schemas.errors import Refusal
from schemas.ids import legal, session_key, split_key
from schemas.limits import Limits

ROW, SAVED = "row", "saved"
_WIDE = Limits(record_bytes=2**31, content_bytes=2**31)  # what was too large for a worker is read all the same


def ready() -> None:
    """Whoever can call this has all it needs to judge."""


def judge(path: Path, marks: Marks) -> Verdict:
    """The verdict on all sessions of one part."""
    part = _Part(marks)
    with calm():
        for item in items_of(path):
            _TAKE[item[0]](part, *item[1:])
        return part.verdict()


@contextlib.contextmanager
def calm() -> Iterator[None]:
    """No garbage collection: evidence is millions of plain values, and looking at them takes half of the time. So
    nothing here may be part of a cycle (tested), or a part stays in memory when it is judged."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class _Session:
    __slots__ = ("commands", "frames", "rows", "saved", "turns")

    def __init__(self) -> None:
        self.turns: list[TurnRecord] = []
        self.commands: list[Command] = []
        self.frames: list[FrameRecord] = []
        self.rows: list[Row] = []
        self.saved: Saved | None = None


class _Part:
    """`_TAKE` has, by the kind of an item, what takes its fields."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._verdict = Verdict()
        self._sessions: dict[str, _Session] = defaultdict(_Session)
        self._letters: dict[Place, str] = {}
        self._unreadable: list[tuple[str, Original]] = []

    def verdict(self) -> Verdict:
        for topic, record in self._unreadable:
            self._judge_unreadable(topic, record)
        for key in sorted(self._sessions):
            seen, (tenant, session) = self._sessions[key], split_key(key)
            letters, saved = self._letters, seen.saved
            evidence = Evidence(
                tenant, session, self._marks, seen.turns, seen.commands, seen.rows, seen.frames, letters, saved
            )
            check(evidence, self._verdict)
        self._verdict.letters = len(self._letters)
        return self._verdict

    def _turn(self, *record: Any) -> None:
        if (plain := _plain(*record)) is not None:
            session, turn = plain
            self._sessions[session].turns.append(turn)
            return
        original = Original(*record)
        try:
            found = decode_turn(original, TURNS, _WIDE)
        except Refusal:
            self._unreadable.append((TURNS, original))
            return
        turn = TurnRecord(original.partition, original.offset, found.id, found.turn.user)
        self._sessions[session_key(found.turn.tenant, found.session)].turns.append(turn)

    def _command(self, *record: Any) -> None:
        original = Original(*record)
        try:
            found = decode_control(original, CONTROL, _WIDE)
        except Refusal:
            self._unreadable.append((CONTROL, original))
            return
        op = found.control
        turn: str | None = getattr(op, "turn", None)
        command = Command(original.partition, original.offset, op.op, op.kind, turn, op.user)
        self._sessions[session_key(op.tenant, found.session)].commands.append(command)

    def _frame(self, partition: int, offset: int, value: bytes | None) -> None:
        try:
            frame = orjson.loads(value or b"")
            key = session_key(frame.get("tenant", "default"), frame["session"])
            _ = frame["op"] if frame["type"] == "ack" else frame["turn"]
        except (ValueError, TypeError, AttributeError, KeyError):
            self._verdict.foreign += 1
            return
        self._sessions[key].frames.append(FrameRecord(partition, offset, frame, value or b""))

    def _letter(self, *record: Any) -> None:
        letter = read_letter(_Read(*record))
        if letter is None:
            self._verdict.foreign += 1
            return
        head = letter.head
        self._letters[head.topic, head.partition, head.offset] = head.code.value

    def _row(self, *fields: Any) -> None:
        row = Row(*fields)
        self._sessions[row.s].rows.append(row)

    def _saved(self, s: str, version: int, turns: int, items: int, tail: bytes) -> None:
        self._sessions[s].saved = Saved(version, turns, items, orjson.loads(tail))

    def _judge_unreadable(self, topic: str, record: Original) -> None:
        place = (topic, record.partition, record.offset)
        committed = record.offset < self._marks.committed.get((topic, record.partition), 0)
        self._verdict.records += topic == TURNS
        self._verdict.commands += topic == CONTROL
        if committed and place not in self._letters:
            text = f"{topic}/{record.partition}@{record.offset} cannot be read, is committed and has no dead letter"
            session = (record.key or b"").decode("utf-8", "replace")
            self._verdict.add(Finding(Kind.NO_LETTER, "", session, None, text))


_TAKE: dict[str, Callable[..., None]] = {
    TURNS: _Part._turn,
    CONTROL: _Part._command,
    REPLIES: _Part._frame,
    LETTERS: _Part._letter,
    ROW: _Part._row,
    SAVED: _Part._saved,
}


def _plain(
    partition: int, offset: int, _: int, key: bytes | None, value: bytes | None, headers: Headers
) -> tuple[str, TurnRecord] | None:
    """(session's name in the store, record) of a turn that names itself: what nearly all are, at a fifth of the price
    of decoding it. None: decode it. One that is refused for another reason is known by its letter."""
    if value is None or any(name == "content-type" and not raw.endswith(b"/json") for name, raw in headers):
        return None
    try:
        said, session = orjson.loads(value), (key or b"").decode("ascii")
        turn, tenant, user = said["turn"], said.get("tenant", "default"), said.get("user", "anonymous")
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if not (isinstance(turn, str) and isinstance(tenant, str) and legal(session) and legal(turn) and legal(tenant)):
        return None
    return f"{tenant}/{session}", TurnRecord(partition, offset, turn, str(user))


class _Read(Original):
    """A record of the dead letters, as the reader of letters wants it."""

    topic = LETTERS


def record_item(topic: str, record: Any) -> tuple[Sequence[Any], int]:
    """A record as an item, and its size."""
    value = record.value
    headers = tuple((name, bytes(raw) if raw is not None else b"") for name, raw in record.headers)
    item = (topic, record.partition, record.offset, record.timestamp, record.key, value, headers)
    return item, len(value or b"") + 64 * len(headers)
