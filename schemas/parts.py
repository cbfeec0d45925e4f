"""The parts that a message is made of: text, files and data. Nothing of who says it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, JsonValue, TypeAdapter, model_validator

from schemas.base import Frozen

_T = TypeVar("_T")


def _always(kind: _T) -> Callable[[dict[str, Any]], _T]:
    """A default that is written even where defaults are left out (entries are stored so): a part without its type
    cannot be read again. pydantic leaves out plain defaults, and those of factories that take nothing."""
    return lambda _data: kind


class TextPart(Frozen):
    type: Literal["text"] = Field(default_factory=_always("text"))
    text: str


class FilePart(Frozen):
    """A file: one of `url`, `data` (base64 text) or `file` (an id of the store)."""

    type: Literal["file"] = Field(default_factory=_always("file"))
    media_type: Annotated[str, Field(min_length=1, max_length=256)]
    url: str | None = None
    data: str | None = None
    file: str | None = None
    name: Annotated[str, Field(max_length=512)] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> FilePart:
        if sum(x is not None for x in (self.url, self.data, self.file)) != 1:
            raise ValueError("a file part has exactly one of url, data, file")
        return self


class DataPart(Frozen):
    type: Literal["data"] = Field(default_factory=_always("data"))
    data: JsonValue


Part = Annotated[TextPart | FilePart | DataPart, Field(discriminator="type")]

PARTS: TypeAdapter[tuple[Part, ...]] = TypeAdapter(tuple[Part, ...])


def text_of(parts: tuple[Part, ...]) -> str:
    """The text parts, joined."""
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def plain_text(text: str) -> TextPart:
    """A text part whose text is ours."""
    return TextPart.trusted(type="text", text=text)
