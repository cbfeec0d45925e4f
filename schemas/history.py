"""What a conversation is made of: our own message types, the ones that are stored. Nothing of any provider."""

from __future__ import annotations

from typing import Any, Literal

from orjson import Fragment
from pydantic import JsonValue

from schemas.base import Frozen, without_defaults
from schemas.parts import Part, TextPart, plain_text, text_of

Role = Literal["user", "assistant", "tool"]


class ToolCall(Frozen):
    """A call that the assistant asked for; `arguments` is an object, or None with `arguments_text` when it is none."""

    call: str
    name: str
    arguments: dict[str, JsonValue] | None = None
    arguments_text: str | None = None


class HistoryItem(Frozen):
    """One message of a session. `id` is `<turn>~<n>`; `partial`: kept of a turn that was cancelled or failed."""

    id: str
    turn: str
    role: Role
    parts: tuple[Part, ...]
    at_ms: int
    calls: tuple[ToolCall, ...] = ()
    call: str | None = None
    partial: bool = False

    @property
    def text(self) -> str:
        return text_of(self.parts)


def said(item: str, *, turn: str, role: Role, text: str, at_ms: int) -> HistoryItem:
    """A plain text message; `item` is its id."""
    return whole(item, turn, role, (plain_text(text),), at_ms)


def whole(item: str, turn: str, role: Role, parts: tuple[Part, ...], at_ms: int) -> HistoryItem:
    """A message without calls, whose values are ours; `item` is its id."""
    return HistoryItem.trusted(
        id=item, turn=turn, role=role, parts=parts, at_ms=at_ms, calls=(), call=None, partial=False
    )


def as_json(item: HistoryItem) -> Any:
    """What orjson takes for a message: without defaults, as messages are stored and sent."""
    parts = item.parts
    if len(parts) != 1 or type(parts[0]) is not TextPart or item.calls or item.call is not None or item.partial:
        return Fragment(without_defaults(item))
    return {
        "id": item.id,
        "turn": item.turn,
        "role": item.role,
        "parts": ({"type": "text", "text": parts[0].text},),
        "at_ms": item.at_ms,
    }
