"""What parts say to a model beside their text. Knows no provider's format; what each takes, its adapter says."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from schemas.codes import Code
from schemas.errors import TerminalError
from schemas.history import HistoryItem
from schemas.parts import DataPart, FilePart, Part, TextPart


def said(part: Part) -> str:
    """The part as text; a file's name stands for the file."""
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, DataPart):
        return orjson.dumps(part.data).decode()
    return f"[file {part.name or part.media_type}]"


def all_said(parts: Sequence[Part]) -> str:
    """All of them as one text."""
    return "".join(said(part) for part in parts)


def not_taken(part: FilePart, item: HistoryItem, turn: str, why: str) -> str:
    """The name of a file that a provider does not take, to be said instead. Raises TerminalError(bad_request) where
    this turn brought it: what an earlier one brought must not make the whole session useless."""
    if item.role == "user" and item.turn in {turn, ""}:
        raise TerminalError(Code.BAD_REQUEST, f"{part.name or part.media_type}: the model takes no such part: {why}")
    return said(part)
