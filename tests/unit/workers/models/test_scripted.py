"""The model in memory: what it counts."""

from __future__ import annotations

from schemas.frames import Usage
from schemas.history import HistoryItem, said
from workers.models.port import ModelDone, ModelRequest, ToolSpec
from workers.models.scripted import Script, ScriptedModel


def item(number: int, text: str) -> HistoryItem:
    return said(item=f"t~{number}", turn="t", role="user", text=text, at_ms=number)


async def used(model: ScriptedModel, *messages: HistoryItem, session: str = "s", system: str = "be kind") -> Usage:
    asked = ModelRequest(session, "t", messages, system=system, tools=(ToolSpec("find", "finds"),))
    async with model.stream(asked) as pieces:
        done = [piece async for piece in pieces][-1]
    assert isinstance(done, ModelDone)
    assert done.usage is not None
    return done.usage


async def test_the_prefix_that_a_session_sent_before_is_cached() -> None:
    model = ScriptedModel((Script(reasoning=("hm",)),), caches=True)
    first = await used(model, item(0, "one two three"))
    assert (first.cached_input_tokens, first.reasoning_tokens) == (0, 1)

    second = await used(model, item(0, "one two three"), item(1, "four"))
    assert second.cached_input_tokens == first.input_tokens
    assert second.input_tokens > first.input_tokens

    changed = await used(model, item(0, "one two three"), item(1, "four"), system="be quick")
    assert changed.cached_input_tokens is not None
    assert changed.cached_input_tokens < first.input_tokens / 2
    assert (await used(model, item(0, "one two three"), session="another")).cached_input_tokens == 0


async def test_words_alone_are_counted_by_default() -> None:
    usage = await used(ScriptedModel(), item(0, "one two three"))
    assert (usage.input_tokens, usage.cached_input_tokens, usage.reasoning_tokens) == (3, None, None)
