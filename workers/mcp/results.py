"""What a server answered, as a tool's output: parts of every known kind, a note for unknown ones. Makes no call."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from schemas.errors import Refusal
from schemas.limits import Limits, check_json
from schemas.parts import DataPart, FilePart, Part, TextPart
from workers.answer import clean
from workers.tools.tool import ToolOutput

_MOST_PARTS = 256
_LIMITS = Limits(depth=32, nodes=100_000)
_UNKNOWN_MEDIA = "application/octet-stream"


def output(raw: Mapping[str, Any], max_bytes: int) -> ToolOutput:
    """Never raises. Texts come whole, for whoever calls the tool cuts them; anything else that is too large is an
    error that says so."""
    content, is_error = raw.get("content"), raw.get("isError") is True
    items = content if isinstance(content, list) else []
    parts = [_part(item) for item in items[:_MOST_PARTS]]
    if len(items) > _MOST_PARTS:
        parts.append(TextPart(text=f"[{len(items) - _MOST_PARTS} more parts are left out]"))
    bytes_ = sum(map(_bytes, parts))
    if bytes_ > max_bytes and not all(isinstance(part, TextPart) for part in parts):
        return ToolOutput.refused(f"the result has {bytes_} bytes, at most {max_bytes} are taken: ask for less")
    data = _data(raw.get("structuredContent"))
    if not parts:
        parts = [DataPart(data=data)] if data is not None else [TextPart(text="(the tool answered nothing)")]
    return ToolOutput(tuple(parts), is_error, data)


def _part(item: Any) -> Part:
    if not isinstance(item, dict):
        return TextPart(text="[a part that is no object is left out]")
    kind = item.get("type")
    if kind == "text":
        return TextPart(text=_text(item.get("text")))
    if kind in {"image", "audio"} and _is_base64(item.get("data")):
        return FilePart(media_type=_media(item, f"{kind}/*"), data=item["data"])
    if kind == "resource" and isinstance(item.get("resource"), dict):
        return _resource(item["resource"])
    if kind == "resource_link" and isinstance(item.get("uri"), str):
        return FilePart(media_type=_media(item), url=clean(item["uri"])[:4_096], name=_named(item.get("name")))
    return TextPart(text=f"[a part of kind {_text(kind)[:64]!r} is left out]")


def _resource(resource: Mapping[str, Any]) -> Part:
    uri = _text(resource.get("uri"))[:4_096]
    if _is_base64(resource.get("blob")):
        return FilePart(media_type=_media(resource), data=resource["blob"], name=_named(uri))
    return TextPart(text=f"[{uri}]\n{_text(resource.get('text'))}")


def _data(structured: Any) -> JsonValue:
    try:
        check_json(structured, limits=_LIMITS, what="structured content")
    except Refusal:
        return None
    return structured if isinstance(structured, dict) else None


def _text(value: Any) -> str:
    return clean(value) if isinstance(value, str) else ""


def _named(value: Any) -> str | None:
    return _text(value)[:512] or None


def _media(item: Mapping[str, Any], default: str = _UNKNOWN_MEDIA) -> str:
    given = item.get("mimeType")
    return clean(given) if isinstance(given, str) and 1 <= len(given) <= 256 and given.isprintable() else default


def _is_base64(value: Any) -> bool:
    """Whether a provider will take it: what is none would stand in the history, and fail every later turn."""
    try:
        return isinstance(value, str) and bool(binascii.a2b_base64(value, strict_mode=True))
    except ValueError:
        return False


def _bytes(part: Part) -> int:
    if isinstance(part, TextPart):
        return len(part.text.encode())
    return len(part.data or part.url or "") if isinstance(part, FilePart) else 0
