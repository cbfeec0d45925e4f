"""Our messages as a chat completion wants them. Knows OpenAI's format; no client library, no network."""

from __future__ import annotations

from typing import Any

import orjson

from schemas.history import HistoryItem, ToolCall
from schemas.parts import FilePart
from workers.models.content import all_said, not_taken, said
from workers.models.orderly import orderly
from workers.models.port import ModelRefused, ModelRequest


def body_of(request: ModelRequest, model: str, *, with_usage: bool, with_format: bool = True) -> bytes:
    """The request's body. Raises ModelRefused for what the format cannot say."""
    body: dict[str, Any] = {"model": model, "messages": _messages(request), "stream": True}
    if with_usage:
        body["stream_options"] = {"include_usage": True}
    if request.output is not None and with_format:
        wanted = {"name": request.output.name, "schema": dict(request.output.schema), "strict": False}
        body["response_format"] = {"type": "json_schema", "json_schema": wanted}
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
    messages: list[dict[str, Any]] = [{"role": "system", "content": request.system}] if request.system else []
    shown: list[dict[str, Any]] = []
    for item in orderly(request.messages):
        if item.role != "tool" and shown:
            messages.append({"role": "user", "content": shown})
            shown = []
        messages.append(_message(item, request.turn))
        if item.role == "tool":
            shown.extend(_pictures(item, request.turn))
    return [*messages, {"role": "user", "content": shown}] if shown else messages


def _message(item: HistoryItem, turn: str) -> dict[str, Any]:
    if item.role == "tool":
        return {"role": "tool", "tool_call_id": item.call, "content": all_said(item.parts)}
    if item.role == "user":
        return {"role": "user", "content": _content(item, turn)}
    message: dict[str, Any] = {"role": "assistant", "content": all_said(item.parts)}
    if item.calls:
        message["content"] = message["content"] or None
        message["tool_calls"] = [_call(call) for call in item.calls]
    return message


def _call(call: ToolCall) -> dict[str, Any]:
    written = call.arguments_text if call.arguments is None else orjson.dumps(call.arguments).decode()
    return {"id": call.call, "type": "function", "function": {"name": call.name, "arguments": written or ""}}


def _content(item: HistoryItem, turn: str) -> str | list[dict[str, Any]]:
    if any(isinstance(part, FilePart) for part in item.parts):
        return [
            _file(part, item, turn) if isinstance(part, FilePart) else _text_block(said(part)) for part in item.parts
        ]
    return all_said(item.parts)


def _pictures(item: HistoryItem, turn: str) -> list[dict[str, Any]]:
    """Pictures that a tool gave: a result takes text alone, so they come after all results, as a user shows them."""
    files = [part for part in item.parts if isinstance(part, FilePart) and _is_picture(part)]
    return [
        block for part in files for block in (_text_block(f"{said(part)} of {item.call}:"), _file(part, item, turn))
    ]


def _text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _is_picture(part: FilePart) -> bool:
    return part.media_type.startswith("image/") and part.file is None


def _file(part: FilePart, item: HistoryItem, turn: str) -> dict[str, Any]:
    """A picture by its address or its data, another file by its data. One that lies in the store cannot be sent yet."""
    address = part.url or (f"data:{part.media_type};base64,{part.data}" if part.data is not None else None)
    if address is not None and _is_picture(part):
        return {"type": "image_url", "image_url": {"url": address}}
    if part.data is not None:
        return {"type": "file", "file": {"filename": part.name or "file", "file_data": address}}
    why = "it lies in the store" if part.file is not None else "only a picture can be given by its address"
    return _text_block(not_taken(part, item, turn, why))
