"""What pydantic-ai says to a model as our messages, and a model's answer as its response. Knows no run and no turn."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import orjson
from pydantic_ai.messages import (
    BinaryContent,
    FileUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryFeedbackPart,
    SystemPromptPart,
    TextContent,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.usage import RequestUsage

from schemas.codes import Code
from schemas.errors import TerminalError
from schemas.history import HistoryItem, Role, ToolCall
from schemas.parts import FilePart, Part
from schemas.parts import TextPart as Said
from workers.agent import ModelAnswer
from workers.tools.tool import ToolOutput


def to_messages(messages: Sequence[ModelMessage]) -> tuple[list[str], list[HistoryItem]]:
    """The system prompts, and all that was said. Raises TerminalError for what no model of the fleet is told."""
    systems: list[str] = []
    items: list[HistoryItem] = []
    for message in messages:
        if isinstance(message, ModelResponse):
            items.append(_answer(message))
            continue
        for part in message.parts:
            if isinstance(part, SystemPromptPart):
                systems.append(part.content)
            elif isinstance(part, UserPromptPart):
                items.append(_item("user", _parts(part.content)))
            elif (reply := reply_of(part)) is not None:
                items.append(_item("tool", reply[1].parts, call=reply[0]))
            elif isinstance(part, RetryFeedbackPart):
                items.append(_item("user", (Said(text=part.model_response()),)))
            else:
                raise TerminalError(Code.AGENT_ERROR, f"{type(part).__name__} cannot be said to a model of the fleet")
    return systems, items


def reply_of(part: object) -> tuple[str, ToolOutput] | None:
    """What a part answers, and to which call; None where it answers none."""
    if isinstance(part, ToolReturnPart):
        return part.tool_call_id, ToolOutput.said(part.model_response_str(), is_error=part.outcome != "success")
    return None


def replies_of(message: ModelMessage) -> dict[str, ToolOutput]:
    """By the ids of the calls that they answer."""
    parts = message.parts if isinstance(message, ModelRequest) else ()
    return dict(reply for part in parts if (reply := reply_of(part)) is not None)


def to_response(answer: ModelAnswer) -> ModelResponse:
    """What a model of ours answered."""
    parts: list[Any] = [TextPart(answer.text)] if answer.text or not answer.calls else []
    parts += [
        ToolCallPart(
            call.name, dict(call.arguments) if call.arguments is not None else call.arguments_text or "", call.call
        )
        for call in answer.calls
    ]
    used = answer.usage
    usage = RequestUsage(
        input_tokens=sum(it.input_tokens for it in used),
        output_tokens=sum(it.output_tokens for it in used),
        cache_read_tokens=sum(it.cached_input_tokens or 0 for it in used),
    )
    finish: Any = answer.finish if answer.finish in {"length", "content_filter"} else "stop"
    return ModelResponse(parts, usage=usage, model_name=answer.model or None, finish_reason=finish)


def _answer(message: ModelResponse) -> HistoryItem:
    text = "".join(part.content for part in message.parts if isinstance(part, TextPart))
    strange = [it for it in message.parts if not isinstance(it, TextPart | ToolCallPart | ThinkingPart)]
    if strange:
        raise TerminalError(Code.AGENT_ERROR, f"{type(strange[0]).__name__} cannot be said to a model of the fleet")
    calls = tuple(call_of(part) for part in message.parts if isinstance(part, ToolCallPart))
    item = _item("assistant", (Said(text=text),) if text else ())
    return item.model_copy(update={"calls": calls}) if calls else item


def call_of(part: ToolCallPart) -> ToolCall:
    """A call as we keep it; arguments that are no object as the text that they are."""
    try:
        given = orjson.loads(part.args or "{}") if not isinstance(part.args, dict) else part.args
    except ValueError:
        given = None
    if isinstance(given, dict):
        return ToolCall(call=part.tool_call_id, name=part.tool_name, arguments=given)
    return ToolCall(call=part.tool_call_id, name=part.tool_name, arguments_text=str(part.args))


def _item(role: Role, parts: tuple[Part, ...], *, call: str | None = None) -> HistoryItem:
    return HistoryItem(id="", turn="", role=role, parts=parts, at_ms=0, call=call)


def _parts(content: Any) -> tuple[Part, ...]:
    return (Said(text=content),) if isinstance(content, str) else tuple(_part(each) for each in content)


def _part(content: Any) -> Part:
    if isinstance(content, str):
        return Said(text=content)
    if isinstance(content, TextContent):
        return Said(text=content.content)
    if isinstance(content, BinaryContent):
        return FilePart(media_type=content.media_type, data=base64.b64encode(content.data).decode())
    if isinstance(content, FileUrl):
        return FilePart(media_type=content.media_type, url=content.url)
    raise TerminalError(Code.AGENT_ERROR, f"{type(content).__name__} cannot be said to a model of the fleet")
