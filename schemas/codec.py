"""Records to models and back, in one place: JSON values, CloudEvents headers, structured mode. No broker in here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple, Protocol

from pydantic import JsonValue, ValidationError
from pydantic_core import from_json

from schemas.codes import Code
from schemas.control import CONTROL, Control
from schemas.entries import Position
from schemas.errors import Refusal
from schemas.ids import from_event_id, from_position, legal
from schemas.limits import DEFAULT_LIMITS, Limits, check_json
from schemas.turn import Turn

TURN_TYPE = "turnfleet.turn.v1"
CONTROL_TYPE = "turnfleet.control.v1"
EVENT_TYPE = "turnfleet.event.v1"
RECEIPT_TYPE = "turnfleet.receipt.v1"

Headers = Sequence[tuple[str, bytes]]


class Record(Protocol):
    """What the codec needs of a record as it was read."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


class TurnRecord(NamedTuple):
    """A decoded turn: `turn.turn` is set. `reply_to` is `<partition>:<gateway incarnation>` or None."""

    session: str
    turn: Turn
    id: str
    position: Position
    reply_to: str | None
    traceparent: str | None


class ControlRecord(NamedTuple):
    """A decoded control op."""

    session: str
    control: Control
    position: Position
    reply_to: str | None


class _Meta:
    """The headers that we read, wherever they stood."""

    __slots__ = ("id", "reply_to", "structured", "traceparent", "type")

    def __init__(self, headers: Headers) -> None:
        self.id = self.reply_to = self.traceparent = self.type = None
        self.structured = False
        for name, raw in headers:
            if name == "ce_id":
                self.id = raw.decode("utf-8", "replace")
            elif name in {"reply_to", "ce_replyto"}:
                self.reply_to = self.reply_to or raw.decode("utf-8", "replace")
            elif name in {"traceparent", "ce_traceparent"}:
                self.traceparent = self.traceparent or raw.decode("utf-8", "replace")
            elif name == "ce_type":
                self.type = raw.decode("utf-8", "replace")
            elif name == "content-type":
                self.structured = raw.startswith(b"application/cloudevents+json")

    id: str | None
    reply_to: str | None
    traceparent: str | None
    type: str | None


_NO_META = _Meta(())
_TURN = Turn.__pydantic_validator__


def reply_to_of(headers: Headers) -> str | None:
    """Where an answer goes, even if nothing else of the record can be read."""
    return _valid_reply_to(_Meta(headers).reply_to)


def parse_reply_to(reply_to: str) -> tuple[int, str]:
    """(partition, incarnation)."""
    partition, _, incarnation = reply_to.partition(":")
    return int(partition), incarnation


def decode_turn(record: Record, stream: str, limits: Limits = DEFAULT_LIMITS) -> TurnRecord:
    """A record of `agent.turns`. Raises Refusal; nothing else, whatever the bytes are."""
    session = _session(record.key)
    meta, value = _open(record, limits)
    _check_type(meta.type, TURN_TYPE)
    turn = parse_turn(value, limits)
    turn_id = turn.turn or _derived_id(meta.id, record)
    return TurnRecord(
        session, turn, turn_id, _position(stream, record), _valid_reply_to(meta.reply_to), meta.traceparent
    )


def decode_control(record: Record, stream: str, limits: Limits = DEFAULT_LIMITS) -> ControlRecord:
    """A record of `agent.control`. Raises Refusal; nothing else, whatever the bytes are."""
    session = _session(record.key)
    meta, value = _open(record, limits)
    _check_type(meta.type, CONTROL_TYPE)
    return ControlRecord(session, parse_control(value), _position(stream, record), _valid_reply_to(meta.reply_to))


def _position(stream: str, record: Record) -> Position:
    timestamp_ms = record.timestamp
    return Position(stream, record.partition, record.offset, timestamp_ms if timestamp_ms > 0 else 0)


def parse_turn(value: bytes | str, limits: Limits = DEFAULT_LIMITS) -> Turn:
    """The JSON of a turn, within the limits and not empty. Raises Refusal."""
    try:
        turn: Turn = _TURN.validate_json(value)
    except ValidationError as error:
        raise Refusal(Code.BAD_REQUEST, first_error(error)) from None
    except (ValueError, RecursionError) as error:
        raise Refusal(Code.BAD_REQUEST, f"not readable: {error}") from None
    if not (turn.plain and 0 < 4 * len(turn.text) <= limits.content_bytes):
        check_turn(turn, limits)
    return turn


def check_turn(turn: Turn, limits: Limits = DEFAULT_LIMITS) -> None:
    """Limits on a turn's content: the same for every way in. Raises Refusal."""
    if not turn.text and not turn.parts:
        raise Refusal(Code.BAD_REQUEST, "text: give text or parts; both are empty")
    size = len(turn.text) if turn.text.isascii() else len(turn.text.encode())
    if turn.parts:
        if len(turn.parts) > limits.parts:
            raise Refusal(Code.TOO_LARGE, f"parts: more than {limits.parts}")
        dumped: list[JsonValue] = [part.model_dump(mode="json") for part in turn.parts]
        check_json(dumped, limits=limits, what="parts")
        size += len(json.dumps(dumped, ensure_ascii=False).encode())
    if size > limits.content_bytes:
        raise Refusal(Code.TOO_LARGE, f"text and parts: {size} bytes, at most {limits.content_bytes}")
    if turn.metadata:
        _check_object(turn.metadata, "metadata", limits, limits.metadata_bytes)
    if turn.options:
        _check_object(turn.options, "options", limits, limits.metadata_bytes)
    if turn.history is not None and len(turn.history) > limits.history_items:
        raise Refusal(Code.TOO_LARGE, f"history: more than {limits.history_items} items")


def parse_control(value: bytes | str) -> Control:
    """The JSON of a control op. Raises Refusal (`unsupported` for a kind that nobody knows)."""
    try:
        return CONTROL.validate_json(value)
    except ValidationError as error:
        if error.errors()[0]["type"] == "union_tag_invalid":
            raise Refusal(Code.UNSUPPORTED, first_error(error)) from None
        raise Refusal(Code.BAD_REQUEST, first_error(error)) from None


def first_error(error: ValidationError) -> str:
    """The first complaint of a validation, as a sentence with the place, without the input."""
    details = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(step) for step in details["loc"])
    return f"{place}: {details['msg']}" if place else str(details["msg"])


def turn_headers(turn_id: str, *, source: str, now_ms: int, reply_to: str | None = None) -> list[tuple[str, bytes]]:
    """CloudEvents headers in binary mode of a turn that we publish."""
    return _headers(TURN_TYPE, turn_id, source, now_ms, reply_to)


def control_headers(op: str, *, source: str, now_ms: int, reply_to: str | None = None) -> list[tuple[str, bytes]]:
    """CloudEvents headers in binary mode of a control op that we publish."""
    return _headers(CONTROL_TYPE, op, source, now_ms, reply_to)


def encode_turn(turn: Turn) -> bytes:
    """The value of a turn record."""
    return turn.__pydantic_serializer__.to_json(turn, exclude_defaults=True)


def encode_control(control: Control) -> bytes:
    """The value of a control record; `kind` is always there."""
    return control.__pydantic_serializer__.to_json(control, exclude_none=True)


def _headers(kind: str, event_id: str, source: str, now_ms: int, reply_to: str | None) -> list[tuple[str, bytes]]:
    time = datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds")
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_type", kind.encode()),
        ("ce_source", source.encode()),
        ("ce_time", time.encode()),
        ("content-type", b"application/json"),
    ]
    if reply_to is not None:
        headers.append(("reply_to", reply_to.encode()))
    return headers


@lru_cache(maxsize=16_384)
def _session(key: bytes | None) -> str:
    """The session that a key names; remembered, for every turn asks. Raises Refusal."""
    try:
        session = (key or b"").decode("ascii")
    except UnicodeDecodeError:
        session = ""
    if not legal(session):
        raise Refusal(Code.BAD_REQUEST, "key: no session id (1-128 characters out of A-Z a-z 0-9 . _ : -)")
    return session


def _open(record: Record, limits: Limits) -> tuple[_Meta, bytes]:
    if record.value is None:
        raise Refusal(Code.BAD_REQUEST, "value: a record without a value")
    if len(record.value) > limits.record_bytes:
        raise Refusal(Code.TOO_LARGE, f"value: {len(record.value)} bytes, at most {limits.record_bytes}")
    headers = record.headers
    meta = _Meta(headers) if headers else _NO_META
    return (meta, _unwrap(record.value, meta)) if meta.structured else (meta, record.value)


def _unwrap(value: bytes, meta: _Meta) -> bytes:
    """Structured mode: `data` is the value, the envelope's attributes stand for headers."""
    try:
        envelope = from_json(value, allow_inf_nan=False)
    except ValueError as error:
        raise Refusal(Code.BAD_REQUEST, f"not readable: {error}") from None
    if not isinstance(envelope, dict) or not isinstance(envelope.get("data"), dict):
        raise Refusal(Code.BAD_REQUEST, "data: a structured CloudEvent carries the value as a JSON object in `data`")
    for field, name in (("id", "id"), ("type", "type"), ("replyto", "reply_to"), ("traceparent", "traceparent")):
        if isinstance(envelope.get(field), str):
            setattr(meta, name, envelope[field])
    return json.dumps(envelope["data"]).encode()


def _check_type(seen: str | None, expected: str) -> None:
    if seen is not None and seen != expected and seen.startswith("turnfleet."):
        raise Refusal(Code.UNSUPPORTED, f"ce_type: {seen[:80]} is not known here; expected {expected}")


def _derived_id(ce_id: str | None, record: Record) -> str:
    return from_event_id(ce_id) if ce_id else from_position(record.partition, record.offset, record.timestamp)


def _valid_reply_to(reply_to: str | None) -> str | None:
    """`<partition>:<incarnation>`, else None: an answer to nowhere goes to the session's own partition."""
    if reply_to is None:
        return None
    partition, _, incarnation = reply_to.partition(":")
    fits = partition.isascii() and partition.isdigit() and len(partition) <= 6 and legal(incarnation)
    return reply_to if fits else None


def _check_object(value: dict[str, JsonValue], what: str, limits: Limits, size: int) -> None:
    check_json(value, limits=limits, what=what)
    if len(json.dumps(value, ensure_ascii=False).encode()) > size:
        raise Refusal(Code.TOO_LARGE, f"{what}: at most {size} bytes")
