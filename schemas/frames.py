"""Event frames: what travels on `agent.replies`, the WebSocket and SSE alike. Knows nothing of any of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from orjson import Fragment
from pydantic import ConfigDict, Field, JsonValue, TypeAdapter
from pydantic_core import to_json

from schemas.base import Frozen
from schemas.codes import Code, Retry
from schemas.history import HistoryItem, as_json
from schemas.parts import Part


class Usage(Frozen):
    """Tokens of one model in one turn; `input_tokens` includes the cached ones. `estimated`: of tries of which the
    provider did not tell all, counted by the bytes that were sent and received."""

    provider: str | None = None
    model: str
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimated: Literal[True] | None = None


class Cut(Frozen):
    """Where the whole of something too long for a frame lies."""

    file: str


class _Frame(Frozen):
    session: str
    turn: str
    attempt: int
    seq: int
    at_ms: int
    tenant: str = "default"
    run: str | None = None
    parent_run: str | None = None
    parent_call: str | None = None


class Accepted(_Frame):
    type: Literal["accepted"] = "accepted"


class Started(_Frame):
    type: Literal["started"] = "started"
    agent: str
    agent_version: str
    worker: str
    journal_version: int


class Delta(_Frame):
    type: Literal["delta"] = "delta"
    message: str
    text: str


class Reasoning(_Frame):
    type: Literal["reasoning"] = "reasoning"
    message: str
    text: str


class StepDone(_Frame):
    type: Literal["step"] = "step"
    step: int
    kind: str
    name: str


class ToolCalled(_Frame):
    type: Literal["tool_call"] = "tool_call"
    call: str
    name: str
    message: str | None = None
    arguments: dict[str, JsonValue] | None = None
    arguments_text: str | None = None


class ToolResult(_Frame):
    type: Literal["tool_result"] = "tool_result"
    call: str
    name: str
    content: tuple[Part, ...]
    is_error: bool = False
    truncated: Cut | None = None


class StateChanged(_Frame):
    type: Literal["state"] = "state"
    name: str
    value: JsonValue


class ApprovalRequested(_Frame):
    """`schema` on the wire: what an answer must look like."""

    model_config = ConfigDict(populate_by_name=True)

    type: Literal["approval_requested"] = "approval_requested"
    call: str
    kind: Literal["tool_call", "question"]
    expires_ms: int
    name: str | None = None
    arguments: dict[str, JsonValue] | None = None
    message: str | None = None
    answer_schema: Annotated[dict[str, JsonValue] | None, Field(alias="schema")] = None


class ApprovalDecided(_Frame):
    type: Literal["approval_decided"] = "approval_decided"
    call: str
    decision: Literal["allow", "deny"]
    by: str


class Joined(_Frame):
    type: Literal["joined"] = "joined"
    into: str


class Reset(_Frame):
    """What was shown after durable step `step` (-1: everything) is void; the answer so far is `text`."""

    type: Literal["reset"] = "reset"
    reason: str
    step: int
    text: str


Finish = Literal["stop", "length", "limit", "content_filter"]
CancelledBy = Literal["user", "interrupt", "rollback", "delete"]


class Completed(_Frame):
    type: Literal["completed"] = "completed"
    text: str
    messages: tuple[HistoryItem, ...] = ()
    finish: Finish = "stop"
    usage: tuple[Usage, ...] = ()
    data: JsonValue = None
    into: str | None = None
    truncated: Cut | None = None


class Failed(_Frame):
    type: Literal["failed"] = "failed"
    code: Code
    message: str
    retry: Retry
    text: str = ""
    usage: tuple[Usage, ...] = ()


class Cancelled(_Frame):
    type: Literal["cancelled"] = "cancelled"
    by: CancelledBy
    text: str = ""
    usage: tuple[Usage, ...] = ()


class Refused(Frozen):
    """Answers one record and is no outcome of a turn."""

    type: Literal["refused"] = "refused"
    session: str
    turn: str
    at_ms: int
    code: Code
    message: str
    retry: Retry
    partition: int
    offset: int
    tenant: str = "default"
    attempt: int = 0
    seq: int = 0


AckState = Literal["applied", "held", "too_late", "unknown", "exists", "refused"]


class Ack(Frozen):
    """A control op is durable and this is what became of it. No attempt, no seq."""

    type: Literal["ack"] = "ack"
    op: str
    session: str
    state: AckState
    at_ms: int
    turn: str | None = None
    tenant: str = "default"


Terminal = Annotated[Completed | Failed | Cancelled, Field(discriminator="type")]
Frame = Annotated[
    Accepted
    | Started
    | Delta
    | Reasoning
    | StepDone
    | ToolCalled
    | ToolResult
    | StateChanged
    | ApprovalRequested
    | ApprovalDecided
    | Joined
    | Reset
    | Completed
    | Failed
    | Cancelled
    | Refused
    | Ack,
    Field(discriminator="type"),
]
FRAME: TypeAdapter[Frame] = TypeAdapter(Frame)
TERMINAL: TypeAdapter[Terminal] = TypeAdapter(Terminal)
TERMINAL_TYPES = frozenset({"completed", "failed", "cancelled"})


def encode(frame: Frame) -> bytes:
    """A frame as it travels: UTF-8 JSON; fields that say nothing are left out."""
    return frame.__pydantic_serializer__.to_json(frame, exclude_none=True, by_alias=True)


def completed(  # noqa: PLR0913 (the fields of one frame, by name)
    *,
    tenant: str,
    session: str,
    turn: str,
    attempt: int,
    seq: int,
    at_ms: int,
    text: str,
    messages: tuple[HistoryItem, ...],
    finish: Finish = "stop",
    usage: tuple[Usage, ...] = (),
    data: JsonValue = None,
    truncated: Cut | None = None,
) -> bytes:
    """An encoded `Completed` whose values are ours: what `encode` gives, at a fifth of its price (tested)."""
    frame: dict[str, Any] = {
        "session": session,
        "turn": turn,
        "attempt": attempt,
        "seq": seq,
        "at_ms": at_ms,
        "tenant": tenant,
        "type": "completed",
        "text": text,
        "messages": [as_json(item) for item in messages],
        "finish": finish,
        "usage": Fragment(_USAGE.dump_json(usage, exclude_none=True)) if usage else (),
    }
    if data is not None:
        frame["data"] = Fragment(to_json(data))
    if truncated is not None:
        frame["truncated"] = {"file": truncated.file}
    return orjson.dumps(frame)


_USAGE: TypeAdapter[tuple[Usage, ...]] = TypeAdapter(tuple[Usage, ...])
