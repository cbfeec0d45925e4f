"""An entry comes back from its stored body as it went in. No store in here."""

from __future__ import annotations

import pytest

from schemas.entries import Finish, body_of, entry_of
from schemas.history import HistoryItem, ToolCall
from schemas.parts import DataPart, FilePart, Part, TextPart


@pytest.mark.parametrize(
    "part",
    [TextPart(text="hi"), FilePart(media_type="text/plain", data="aGk="), DataPart(data={"$set": {"a.b": 1}})],
    ids=lambda part: str(part.type),
)
def test_a_part_keeps_its_type_though_defaults_are_left_out(part: Part) -> None:
    item = HistoryItem(
        id="t~1", turn="t", role="assistant", parts=(part,), at_ms=1, calls=(ToolCall(call="c", name="n"),)
    )
    entry = Finish(at_ms=1, turn="t", attempt=1, outcome="completed", history=(item,))

    assert entry_of("finish", body_of(entry)) == entry
