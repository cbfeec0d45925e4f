"""`echo` answers with its input."""

from __future__ import annotations

from schemas.parts import DataPart, FilePart, TextPart
from schemas.turn import TurnInput
from tests.support.stage import INFO, Stage, Told
from workers.agents.echo import spec


async def answer(given: TurnInput) -> str:
    model = Told()
    result = await Stage(await spec().build(spec(), INFO), model, given=given).play()
    assert (result.outcome, model.requests) == ("completed", [])
    return result.text


async def test_it_says_what_it_was_told() -> None:
    assert await answer(TurnInput(text="hi\nthere")) == "hi\nthere"


async def test_parts_are_noted() -> None:
    parts = (
        TextPart(text="more"),
        FilePart(media_type="image/png", url="https://x/y.png", name="cat.png"),
        FilePart(media_type="image/png", data="AA=="),
        DataPart(data={"a": 1}),
    )
    assert await answer(TurnInput(text="hi", parts=parts)) == "hi\nmore\n[file cat.png]\n[file image/png]\n[data]"
    assert await answer(TurnInput(parts=parts[3:])) == "[data]"
