"""What a frame shows of something long, so that no frame outgrows its limit. Knows no turn."""

from __future__ import annotations

import orjson

from schemas.frames import Cut
from schemas.history import HistoryItem, as_json
from schemas.parts import DataPart, Part, TextPart, text_of
from workers.emitter import MAX_DELTA_CHARS

MAX_FRAME_BYTES = 524_288
_ENVELOPE_BYTES = 16_384  # ids, usage, names
_SHOWN_BYTES = MAX_FRAME_BYTES - 2 * _ENVELOPE_BYTES


def file_of(session: str) -> str:
    """Where the whole lies of what the history keeps."""
    return f"/v1/sessions/{session}/history"


def cut_parts(parts: tuple[Part, ...], session: str) -> tuple[tuple[Part, ...], Cut | None]:
    """A tool's result as a `tool_result` shows it: whole, or the first characters of its text or its JSON."""
    if _bytes_of(parts) <= _SHOWN_BYTES:
        return parts, None
    text = text_of(parts) or "".join(orjson.dumps(it.data).decode() for it in parts if isinstance(it, DataPart))
    return (TextPart(text=text[:MAX_DELTA_CHARS]),), Cut(file=file_of(session))


def cut_messages(
    items: tuple[HistoryItem, ...], taken_bytes: int, session: str
) -> tuple[tuple[HistoryItem, ...], Cut | None]:
    """A turn's messages as `completed` shows them beside `taken_bytes`: all, or those of the assistant with their texts
    alone. The history keeps them whole."""
    if all(item.call is None and not item.calls for item in items):
        return items, None
    left = MAX_FRAME_BYTES - _ENVELOPE_BYTES - taken_bytes
    if sum(len(orjson.dumps(as_json(item))) for item in items) <= left:
        return items, None
    said = tuple(item.model_copy(update={"calls": ()}) for item in items if item.role == "assistant" and item.text)
    return said, Cut(file=file_of(session))


def _bytes_of(parts: tuple[Part, ...]) -> int:
    values = (it.data if isinstance(it, DataPart) else getattr(it, "text", None) for it in parts)
    return sum(len(orjson.dumps(value)) for value in values)
