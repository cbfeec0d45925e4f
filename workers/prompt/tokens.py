"""How many tokens something takes: estimated until a provider has told, then as it told. Pure.

An estimate is 4 characters a token (3 bytes where the text is not plain ASCII). What a provider counted for a whole
request, over what was estimated for it, is the rate by which every later estimate is corrected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson
from pydantic import JsonValue

from schemas.frames import Usage
from schemas.history import HistoryItem
from schemas.parts import FilePart, TextPart
from workers.models.port import ToolSpec

KEPT = "tokens"
_MESSAGE = 4  # what goes around each message
_IMAGE = 1_600
_LEAST, _MOST = 0.25, 4.0  # a rate beyond is a provider's slip


def of_text(text: str) -> int:
    """Of a text, estimated."""
    return len(text) // 4 if text.isascii() else len(text.encode(errors="replace")) // 3


def of_item(item: HistoryItem) -> int:
    """Of a message, estimated."""
    parts = item.parts
    if len(parts) == 1 and type(parts[0]) is TextPart and not item.calls:
        return _MESSAGE + of_text(parts[0].text)
    tokens = _MESSAGE
    for part in parts:
        if isinstance(part, TextPart):
            tokens += of_text(part.text)
        elif isinstance(part, FilePart):
            tokens += _IMAGE if part.media_type.startswith("image/") else len(part.data or "") // 4 + 16
        else:
            tokens += _of_json(part.data)
    for call in item.calls:
        given = _of_json(call.arguments) if call.arguments is not None else of_text(call.arguments_text or "")
        tokens += 16 + given
    return tokens


def of_items(items: Iterable[HistoryItem]) -> int:
    """Of messages, estimated."""
    return sum(map(of_item, items))


def of_tools(tools: Iterable[ToolSpec]) -> int:
    """Of what a model is told of tools, estimated."""
    return sum(8 + of_text(tool.name) + of_text(tool.description) + _of_json(dict(tool.parameters)) for tool in tools)


def _of_json(value: JsonValue) -> int:
    return len(orjson.dumps(value)) // 3


class Meter:
    """`rate`: tokens counted for one estimated."""

    __slots__ = ("rate",)

    def __init__(self, kept: JsonValue = None) -> None:
        """`kept`: what `told` gave in an earlier turn."""
        self.rate = 1.0
        if isinstance(kept, Mapping):
            counted, estimated = kept.get("counted"), kept.get("estimated")
            if isinstance(counted, int) and isinstance(estimated, int) and counted > 0 and estimated > 0:
                self.rate = min(max(counted / estimated, _LEAST), _MOST)

    def tokens(self, estimated: int) -> int:
        """The best that is known."""
        return round(estimated * self.rate)

    def estimated(self, tokens: int) -> int:
        """How much may be estimated for so many tokens."""
        return int(tokens / self.rate)

    @staticmethod
    def told(usage: tuple[Usage, ...], estimated: int) -> dict[str, JsonValue] | None:
        """What to keep of one answer to a request of `estimated` tokens; None where the provider counted nothing."""
        counted = sum(one.input_tokens for one in usage if not one.estimated)
        return {"counted": counted, "estimated": estimated} if counted > 0 and estimated > 0 else None
