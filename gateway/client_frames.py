"""What a client may send over the WebSocket, one class a type. Unknown fields are ignored, unknown types refused."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from gateway.turn_request import TurnRequest
from schemas.base import Frozen
from schemas.codec import first_error
from schemas.codes import Code
from schemas.errors import Refusal
from schemas.ids import OpId, SessionId, TurnId

Ref = Annotated[str, Field(max_length=256)] | None
Count = Annotated[int, Field(ge=0, lt=2**53)]
CallId = Annotated[str, Field(min_length=1, max_length=256)]


class TurnFrame(TurnRequest):
    type: Literal["turn"]
    session: SessionId
    ref: Ref = None


class CancelFrame(Frozen):
    type: Literal["cancel"]
    session: SessionId
    turn: TurnId
    op: OpId | None = None
    ref: Ref = None


class SteerFrame(Frozen):
    type: Literal["steer"]
    session: SessionId
    turn: TurnId
    text: Annotated[str, Field(min_length=1)]
    op: OpId | None = None
    ref: Ref = None


class ApproveFrame(Frozen):
    type: Literal["approve"]
    session: SessionId
    turn: TurnId
    call: CallId
    decision: Literal["allow", "deny"]
    arguments: dict[str, JsonValue] | None = None
    answer: JsonValue = None
    note: Annotated[str, Field(max_length=4_096)] | None = None
    op: OpId | None = None
    ref: Ref = None


class AfterFrame(Frozen):
    """`seq` -1: before the first frame of the attempt, as `recovered` says it."""

    turn: TurnId
    attempt: Count
    seq: Annotated[int, Field(ge=-1, lt=2**53)]


class AttachFrame(Frozen):
    type: Literal["attach"]
    session: SessionId
    turn: TurnId | None = None
    after: AfterFrame | None = None
    ref: Ref = None


class DetachFrame(Frozen):
    type: Literal["detach"]
    session: SessionId
    ref: Ref = None


class FeedbackFrame(Frozen):
    type: Literal["feedback"]
    session: SessionId
    turn: TurnId
    score: float
    note: Annotated[str, Field(max_length=4_096)] | None = None
    ref: Ref = None


class PingFrame(Frozen):
    type: Literal["ping"]
    ref: Ref = None


ClientFrame = Annotated[
    TurnFrame | CancelFrame | SteerFrame | ApproveFrame | AttachFrame | DetachFrame | FeedbackFrame | PingFrame,
    Field(discriminator="type"),
]
_FRAME: TypeAdapter[ClientFrame] = TypeAdapter(ClientFrame)


class NotJson(Exception):
    """The frame is no JSON at all: a breach of the protocol."""


class Misread(Refusal):
    """A frame that is not taken, with what could still be read of it, so that the answer can be matched."""

    def __init__(self, code: Code, text: str, ref: str | None) -> None:
        super().__init__(code, text)
        self.ref = ref


def parse_client_frame(text: str) -> ClientFrame:
    """The frame. Raises NotJson, or Misread for JSON that is none of ours (too deep, lone surrogates, wrong types)."""
    try:
        return _FRAME.validate_json(text)
    except ValidationError as error:
        seen = _leniently(text)
        ref = seen.get("ref") if isinstance(seen, dict) else None
        ref = ref if isinstance(ref, str) and len(ref) <= 256 and ref.isprintable() else None
        first = error.errors(include_input=False)[0]
        unknown_type = first["type"] == "union_tag_invalid" and not first["loc"]
        raise Misread(Code.UNSUPPORTED if unknown_type else Code.BAD_REQUEST, first_error(error), ref) from None


def _leniently(text: str) -> object:
    """What another reader makes of it. Raises NotJson; None: JSON, but nobody can hold it."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise NotJson from None
    except (ValueError, RecursionError):
        return None
