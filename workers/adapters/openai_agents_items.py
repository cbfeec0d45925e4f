"""Our messages as items of OpenAI's Responses interface, and back. Knows the format; no agent, no run, no network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from agents.models.fake_id import FAKE_RESPONSES_ID
from agents.tool import ToolOutputFileContent, ToolOutputImage, ToolOutputText
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from pydantic import JsonValue

from schemas.codes import Code
from schemas.errors import TerminalError
from schemas.history import HistoryItem, Role, ToolCall
from schemas.parts import DataPart, FilePart, Part, TextPart
from workers.agent import ModelAnswer
from workers.tools.tool import ToolOutput

_STRUCTURED = (ToolOutputText, ToolOutputImage, ToolOutputFileContent)
_SKIPPED = frozenset({"reasoning"})  # what a model thought is not said to it again


def to_items(messages: Iterable[HistoryItem]) -> list[Any]:
    """What a run begins with."""
    items: list[Any] = []
    for message in messages:
        if message.role == "tool":
            items.append({"type": "function_call_output", "call_id": message.call, "output": _contents(message.parts)})
        elif message.role == "user":
            items.append({"role": "user", "content": _contents(message.parts)})
        else:
            if said := "".join(_said(part) for part in message.parts):
                items.append({"role": "assistant", "content": said})
            items.extend(_asked(call) for call in message.calls)
    return items


def _asked(call: ToolCall) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call.call, "name": call.name, "arguments": _written(call)}


def to_messages(given: str | list[Any]) -> list[HistoryItem]:
    """What the SDK would say to a model. Raises TerminalError for items that no model of the fleet is told."""
    if isinstance(given, str):
        return [_item("user", (TextPart(text=given),))]
    messages: list[HistoryItem] = []
    for item in given:
        kind = item.get("type", "message")
        if kind == "message":
            role: Role = "assistant" if item["role"] == "assistant" else "user"
            messages.append(_item(role, _parts(item["content"])))
        elif kind == "function_call":
            _ask(messages, _call(item))
        elif kind == "function_call_output":
            messages.append(_item("tool", _parts(item["output"]), call=item["call_id"]))
        elif kind not in _SKIPPED:
            raise TerminalError(Code.AGENT_ERROR, f"an item of type {kind!r} cannot be said to a model of the fleet")
    return messages


def to_output(answer: ModelAnswer) -> list[Any]:
    """What a model answered, as the SDK reads it."""
    output: list[Any] = []
    if answer.text or not answer.calls:
        text = ResponseOutputText(text=answer.text, type="output_text", annotations=[])
        output.append(
            ResponseOutputMessage(
                id=FAKE_RESPONSES_ID, content=[text], role="assistant", type="message", status="completed"
            )
        )
    output.extend(
        ResponseFunctionToolCall(
            id=FAKE_RESPONSES_ID,
            call_id=call.call,
            name=call.name,
            arguments=_written(call),
            type="function_call",
        )
        for call in answer.calls
    )
    return output


def _written(call: ToolCall) -> str:
    return (call.arguments_text or "") if call.arguments is None else json.dumps(call.arguments)


def to_tool_output(result: Any) -> ToolOutput:
    """What a tool of the SDK returned: the text that the model would read, or files; JSON as data, too."""
    several = result if isinstance(result, list) and result else [result]
    if all(isinstance(each, _STRUCTURED) for each in several):
        return ToolOutput(tuple(_part(each.model_dump(exclude_none=True)) for each in several))
    output = ToolOutput.said(str(result))
    try:
        json.dumps(result, allow_nan=False)
    except (TypeError, ValueError):
        return output
    return output if isinstance(result, str) else output._replace(data=result)


def from_tool_output(output: ToolOutput) -> Any:
    """The same for the SDK."""
    if output.data is not None:
        return output.data
    if not any(isinstance(part, FilePart) for part in output.parts):
        return "".join(_said(part) for part in output.parts)
    return [_structured(part) for part in output.parts]


def _structured(part: Part) -> dict[str, Any]:
    """A part as the SDK takes it from a tool."""
    if not isinstance(part, FilePart):
        return {"type": "text", "text": _said(part)}
    content = _file(part)
    kind = "image" if content.pop("type") == "input_image" else "file"
    return {"type": kind, **content}


def _item(role: Role, parts: tuple[Part, ...], *, call: str | None = None) -> HistoryItem:
    return HistoryItem(id="", turn="", role=role, parts=parts, at_ms=0, call=call)


def _ask(messages: list[HistoryItem], call: ToolCall) -> None:
    """The call is one of the message before it."""
    last = messages.pop() if messages and messages[-1].role == "assistant" else _item("assistant", ())
    messages.append(last.model_copy(update={"calls": (*last.calls, call)}))


def _call(item: Mapping[str, Any]) -> ToolCall:
    arguments = object_of(item["arguments"])
    text = None if arguments is not None else item["arguments"]
    return ToolCall(call=item["call_id"], name=item["name"], arguments=arguments, arguments_text=text)


def object_of(arguments: str) -> dict[str, JsonValue] | None:
    """The JSON object that a text is, if it is one, of what every reader takes: no NaN."""
    try:
        given = orjson.loads(arguments or "{}")
    except ValueError:
        return None
    return given if isinstance(given, dict) else None


def _contents(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    if not any(isinstance(part, FilePart) for part in parts):
        return "".join(_said(part) for part in parts)
    return [
        _file(part) if isinstance(part, FilePart) else {"type": "input_text", "text": _said(part)} for part in parts
    ]


def _said(part: Part) -> str:
    if isinstance(part, TextPart):
        return part.text
    return json.dumps(part.data) if isinstance(part, DataPart) else f"[file {part.name or part.media_type}]"


def _file(part: FilePart) -> dict[str, Any]:
    if part.file is not None:
        return {"type": "input_file", "file_id": part.file, "filename": part.name or part.media_type}
    address = part.url or f"data:{part.media_type};base64,{part.data}"
    if part.media_type.startswith("image/"):
        return {"type": "input_image", "image_url": address, "detail": "auto"}
    if part.url is not None:
        return {"type": "input_file", "file_url": address}
    return {"type": "input_file", "file_data": address, "filename": part.name or "file"}


def _parts(content: Any) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (TextPart(text=content),)
    return tuple(_part(each) for each in content)


def _part(content: Mapping[str, Any]) -> Part:
    """One content part of a message or of a tool's output."""
    kind = content.get("type", "")
    if "text" in content:
        return TextPart(text=content["text"])
    if kind == "refusal":
        return TextPart(text=content["refusal"])
    if address := content.get("image_url") or content.get("file_url") or content.get("file_data"):
        return _file_part(address, content.get("filename"), image="image" in kind)
    if file := content.get("file_id"):
        media_type = "image/*" if "image" in kind else "application/octet-stream"
        return FilePart(media_type=media_type, file=file, name=content.get("filename"))
    raise TerminalError(Code.AGENT_ERROR, f"content of type {kind!r} cannot be said to a model of the fleet")


def _file_part(address: str, name: str | None, *, image: bool) -> FilePart:
    media_type = "image/*" if image else "application/octet-stream"
    if address.startswith("data:") and ";base64," in address:
        head, data = address.split(";base64,", 1)
        return FilePart(media_type=head.removeprefix("data:") or media_type, data=data, name=name)
    if "://" in address:
        return FilePart(media_type=media_type, url=address, name=name)
    return FilePart(media_type=media_type, data=address, name=name)
