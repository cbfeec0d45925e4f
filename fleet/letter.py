"""One dead letter as it lies on its topic, and which ones somebody means. Knows no broker, no store."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from broker.port import Record
from journal.port import LetterMark
from schemas.codec import Headers, TurnRecord, decode_turn
from schemas.codes import Code
from schemas.dead_letter import DeadLetter
from schemas.errors import Refusal
from schemas.limits import Limits

TURNS, CONTROL, DEAD_LETTERS = "agent.turns", "agent.control", "agent.dead-letters"
_WIDE = Limits(record_bytes=2**31, content_bytes=2**31)  # what was too large for a worker is read all the same
_OPEN = "open"


@dataclass(frozen=True, slots=True)
class Original:
    """The record as it lay where the letter says: what the codec reads."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter: why (`head`), the original record, and when it was written (`at_ms`)."""

    head: DeadLetter
    original: Original
    at_ms: int

    @property
    def id(self) -> str:
        """`<topic>/<partition>@<offset>-<timestamp>` of the original record: copies of a letter have the same one."""
        return self.head.id

    @property
    def order(self) -> tuple[str, int, int]:
        """Letters of one session sort in the order in which its records came."""
        return self.head.topic, self.head.partition, self.head.offset

    @property
    def session(self) -> str:
        """The key, as far as it is text."""
        return (self.original.key or b"").decode("utf-8", "replace")

    def decoded(self) -> TurnRecord | None:
        """The turn that the record is, with the id that it had at its place; None: it is none, or cannot be read."""
        if self.head.topic != TURNS:
            return None
        try:
            return decode_turn(self.original, TURNS, _WIDE)
        except Refusal:
            return None


def read_letter(record: Record) -> Letter | None:
    """None: it is no letter of ours. Our headers come first: an original one may have the same name."""
    ours: dict[str, bytes] = {}
    rest = list(record.headers)
    while rest and rest[0][0].startswith("dl_") and rest[0][0] not in ours:
        name, value = rest.pop(0)
        ours[name] = value
    try:
        head = DeadLetter.from_headers(ours)
    except (KeyError, ValueError):
        return None
    original = Original(head.partition, head.offset, head.timestamp_ms, record.key, record.value, tuple(rest))
    return Letter(head, original, record.timestamp)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are meant; what is None or empty excludes nothing. `until_ms` is excluded itself."""

    codes: frozenset[Code] = frozenset()
    session: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    @property
    def everything(self) -> bool:
        return self == Wanted()

    def matches(self, letter: Letter) -> bool:
        return (
            (not self.codes or letter.head.code in self.codes)
            and (self.session is None or letter.session == self.session)
            and (self.since_ms is None or letter.at_ms >= self.since_ms)
            and (self.until_ms is None or letter.at_ms < self.until_ms)
        )


def without_value(letter: Letter) -> Letter:
    """For lists: they may be long, and values large."""
    return replace(letter, original=replace(letter.original, value=None))


def summary(letter: Letter, mark: LetterMark | None) -> dict[str, Any]:
    """A letter in a list, as JSON. `redriven_as`: the turn id under which it goes out again."""
    return {
        "id": letter.id,
        "state": mark.state if mark is not None else _OPEN,
        "code": letter.head.code.value,
        "reason": letter.head.reason,
        "session": letter.session,
        "attempts": letter.head.attempts,
        "at_ms": letter.at_ms,
        "redriven_as": mark.turn if mark is not None else None,
    }


def described(letter: Letter, mark: LetterMark | None) -> dict[str, Any]:
    """Everything of a letter as JSON. Bytes are text where they are UTF-8, and base64 as well where it matters."""
    decoded, original = letter.decoded(), letter.original
    return {
        **summary(letter, mark),
        "turn": decoded.id if decoded is not None else None,
        "record_at_ms": original.timestamp,
        "headers": [[name, _text(value)] for name, value in original.headers],
        "headers_base64": [[name, _base64(value)] for name, value in original.headers],
        "key_base64": _base64(original.key),
        "value": _text(original.value),
        "value_base64": _base64(original.value),
    }


def deduplicated(letters: Sequence[Letter]) -> list[Letter]:
    """Copies are one letter: the first one, in the order of the original records."""
    first: dict[str, Letter] = {}
    for letter in letters:
        first.setdefault(letter.id, letter)
    return sorted(first.values(), key=lambda letter: letter.order)


def _text(value: bytes | None) -> str | None:
    """None: there is none, or it is not UTF-8."""
    try:
        return value.decode() if value is not None else None
    except UnicodeDecodeError:
        return None


def _base64(value: bytes | None) -> str | None:
    return base64.b64encode(value).decode() if value is not None else None
