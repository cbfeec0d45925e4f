"""What a call sends and says in tokens, where nobody told: by its bytes, high. Knows no price and no provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from schemas.frames import Usage
from schemas.parts import DataPart, FilePart, TextPart
from schemas.settings import provider_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.history import ToolCall
    from workers.models.port import ModelRequest

_FILE_TOKENS = 2_000  # an image costs most models less
_BYTES_A_TOKEN = 3  # of English text a token has some four
_MESSAGE_TOKENS = 8


def input_tokens(request: ModelRequest) -> int:
    """How many tokens a call sends, estimated high."""
    bytes_ = len(request.system.encode())
    tokens = 0
    for item in (*request.messages, *request.volatile):
        tokens += _MESSAGE_TOKENS
        for part in item.parts:
            if isinstance(part, TextPart):
                bytes_ += len(part.text.encode())
            elif isinstance(part, DataPart):
                bytes_ += len(orjson.dumps(part.data))
            elif isinstance(part, FilePart):
                tokens += _FILE_TOKENS
        bytes_ += _bytes_of(item.calls)
    bytes_ += sum(
        len(tool.name) + len(tool.description.encode()) + len(orjson.dumps(dict(tool.parameters)))
        for tool in request.tools
    )
    return tokens + _tokens(bytes_)


def estimated(
    request: ModelRequest, model: str, bytes_: int, calls: Iterable[ToolCall] = (), *, told: Usage | None = None
) -> Usage:
    """Of a try of `model` that said so many bytes and these calls. What a provider `told` before it was cut goes before
    the estimate of the input, and is the least of the output."""
    made = _tokens(bytes_ + _bytes_of(calls))
    if told is not None:
        return told.model_copy(update={"output_tokens": max(told.output_tokens, made), "estimated": True})
    asked = provider_of(model)
    return Usage(
        provider=asked if model.startswith(f"{asked}:") else None,
        model=model,
        input_tokens=input_tokens(request),
        output_tokens=made,
        estimated=True,
    )


def bytes_of(text: str) -> int:
    """In UTF-8."""
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def _bytes_of(calls: Iterable[ToolCall]) -> int:
    return sum(len(orjson.dumps(call.arguments)) + len(call.name) for call in calls)


def _tokens(bytes_: int) -> int:
    return -(-bytes_ // _BYTES_A_TOKEN)
