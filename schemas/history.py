"""What a conversation is made of: our own message types, the ones that are stored. Nothing of any provider."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from schemas.base import Frozen
from schemas.parts import Part, TextPart, text_of

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
    part = TextPart.trusted(text=text)
    return HistoryItem.trusted(id=item, turn=turn, role=role, parts=(part,), at_ms=at_ms)
