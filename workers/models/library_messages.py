"""Our messages as pydantic-ai's, which its providers write for whom they speak to. Knows no provider and no network."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from datetime import UTC, datetime

from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.messages import (
    ModelRequest as Asked,
)
from pydantic_ai.messages import (
    TextPart as SaidPart,
)

from schemas.history import HistoryItem, ToolCall
from schemas.parts import FilePart
from workers.models.content import all_said, not_taken, said
from workers.models.orderly import orderly
from workers.models.port import ModelRequest

PICTURES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
FILES = PICTURES | {"application/pdf"}
_BEFORE = "(The conversation so far was cut.)"
# Moments are no part of what is sent; one that stands still keeps equal messages equal.
_AT = datetime.fromtimestamp(0, UTC)


def messages_of(request: ModelRequest, *, addresses: bool) -> list[ModelMessage]:
    """The request's messages; turns of user and model, in alternation, beginning with a user's. `addresses`: the
    provider fetches a picture by its address; nobody here does that for a user."""
    messages: list[ModelMessage] = []
    names: dict[str, str] = {}
    asked: list[ModelRequestPart] = [_system(request.system)] if request.system else []
    answered: list[ModelResponsePart] = []
    items = orderly(request.messages)
    if items and items[0].role == "assistant":
        asked.append(UserPromptPart(_BEFORE, timestamp=_AT))
    for item in items:
        if item.role == "assistant":
            if asked:
                messages.append(Asked(asked))
                asked = []
            answered.extend(_answer(item))
            names.update({call.call: call.name for call in item.calls})
            continue
        if answered:
            messages.append(ModelResponse(answered, timestamp=_AT))
            answered = []
        asked.append(
            _result(item, request.turn, names)
            if item.role == "tool"
            else _prompt(item, request.turn, addresses=addresses)
        )
    if answered:
        messages.append(ModelResponse(answered, timestamp=_AT))
    if asked:
        messages.append(Asked(asked))
    return messages


def _system(text: str) -> SystemPromptPart:
    return SystemPromptPart(text, timestamp=_AT)


def _answer(item: HistoryItem) -> Iterable[ModelResponsePart]:
    text = all_said(item.parts)
    if text.strip():
        yield SaidPart(text)
    for call in item.calls:
        yield ToolCallPart(call.name, _arguments(call), call.call)


def _arguments(call: ToolCall) -> dict[str, object] | str:
    """Arguments that are no object go back as the text that they are; the library wraps it where it must."""
    return dict(call.arguments) if call.arguments is not None else call.arguments_text or ""


def _result(item: HistoryItem, turn: str, names: dict[str, str]) -> ToolReturnPart:
    call = item.call or ""
    shown = [part for part in item.parts if isinstance(part, FilePart) and part.data and part.media_type in PICTURES]
    told = all_said(item.parts)
    content: object = [told, *(_binary(part, item, turn) for part in shown)] if shown else told
    return ToolReturnPart(names.get(call, "tool"), content, call, timestamp=_AT)


def _prompt(item: HistoryItem, turn: str, *, addresses: bool) -> UserPromptPart:
    if not any(isinstance(part, FilePart) for part in item.parts):
        return UserPromptPart(all_said(item.parts), timestamp=_AT)
    content: list[UserContent] = [
        _file(part, item, turn, addresses=addresses) if isinstance(part, FilePart) else said(part)
        for part in item.parts
        if isinstance(part, FilePart) or said(part).strip()
    ]
    return UserPromptPart(content, timestamp=_AT)


def _file(part: FilePart, item: HistoryItem, turn: str, *, addresses: bool) -> UserContent:
    if part.url is not None and addresses and part.media_type in PICTURES:
        return ImageUrl(part.url, media_type=part.media_type)
    if part.data is not None and part.media_type in FILES:
        return _binary(part, item, turn)
    if part.url is not None and part.media_type in PICTURES:
        return not_taken(part, item, turn, "give the picture's data, not its address")
    why = "it lies in the store" if part.file is not None else f"give one of {', '.join(sorted(FILES))}"
    return not_taken(part, item, turn, why)


def _binary(part: FilePart, item: HistoryItem, turn: str) -> BinaryContent | str:
    try:
        return BinaryContent(base64.b64decode(part.data or "", validate=True), media_type=part.media_type)
    except binascii.Error:
        return not_taken(part, item, turn, "its data is no base64 text")
