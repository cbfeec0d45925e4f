"""Our messages as a chat completion wants them. Knows OpenAI's format; no client library, no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from schemas.history import HistoryItem, ToolCall
from schemas.parts import DataPart, FilePart, Part, TextPart
from workers.models.port import ModelRefused, ModelRequest


def body_of(request: ModelRequest, model: str, *, with_usage: bool) -> bytes:
    """The request's body. Raises ModelRefused for what the format cannot say."""
    body: dict[str, Any] = {"model": model, "messages": _messages(request), "stream": True}
    if with_usage:
        body["stream_options"] = {"include_usage": True}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": dict(tool.parameters) or {"type": "object", "properties": {}},
                },
            }
            for tool in request.tools
        ]
    try:
        return orjson.dumps(body)
    except TypeError as error:
        raise ModelRefused(f"the request cannot be written as JSON: {error}") from None


def _messages(request: ModelRequest) -> list[dict[str, Any]]:
    messages = [{"role": "system", "content": request.system}] if request.system else []
    return messages + [_message(item) for item in _paired(request.messages)]


def _paired(items: Sequence[HistoryItem]) -> list[HistoryItem]:
    """Without tool results that nobody asked for and calls without a result: a provider refuses the whole request."""
    asked = {call.call for item in items for call in item.calls}
    answered = {item.call for item in items if item.role == "tool"}
    kept = []
    for item in items:
        calls = tuple(call for call in item.calls if call.call in answered)
        if item.role == "tool":
            if item.call in asked:
                kept.append(item)
        elif item.parts or calls:
            kept.append(item if len(calls) == len(item.calls) else item.model_copy(update={"calls": calls}))
    return kept


def _message(item: HistoryItem) -> dict[str, Any]:
    if item.role == "tool":
        return {"role": "tool", "tool_call_id": item.call, "content": _text(item.parts)}
    if item.role == "user":
        return {"role": "user", "content": _content(item.parts)}
    message: dict[str, Any] = {"role": "assistant", "content": _text(item.parts)}
    if item.calls:
        message["content"] = message["content"] or None
        message["tool_calls"] = [_call(call) for call in item.calls]
    return message


def _call(call: ToolCall) -> dict[str, Any]:
    written = call.arguments_text if call.arguments is None else orjson.dumps(call.arguments).decode()
    return {"id": call.call, "type": "function", "function": {"name": call.name, "arguments": written or ""}}


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    if any(isinstance(part, FilePart) for part in parts):
        return [_file(part) if isinstance(part, FilePart) else _text_block(part) for part in parts]
    return _text(parts)


def _text(parts: Sequence[Part]) -> str:
    return "".join(_said(part) for part in parts)


def _said(part: Part) -> str:
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, DataPart):
        return orjson.dumps(part.data).decode()
    return f"[file {part.name or part.media_type}]"


def _text_block(part: TextPart | DataPart) -> dict[str, Any]:
    return {"type": "text", "text": _said(part)}


def _file(part: FilePart) -> dict[str, Any]:
    """A picture by its address or its data, another file by its data. One that lies in the store cannot be sent yet."""
    address = part.url or (f"data:{part.media_type};base64,{part.data}" if part.data is not None else None)
    if address is not None and part.media_type.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": address}}
    if part.data is not None:
        return {"type": "file", "file": {"filename": part.name or "file", "file_data": address}}
    return _text_block(TextPart(text=_said(part)))
