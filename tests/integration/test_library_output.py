"""Structured output in the providers' own words, and what else of a request reaches them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from loadtest.script import Rules, Script
from loadtest.wheel import Wheel
from schemas.history import HistoryItem
from schemas.parts import FilePart, TextPart
from schemas.settings import ModelSettings
from tests.support.dialects import AnthropicTape, DialectServer, GeminiTape
from workers.models.anthropic import anthropic_model
from workers.models.google import google_model
from workers.models.port import ModelDone, ModelRequest, OutputSpec

WANTED = OutputSpec("answer", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
PICTURE = FilePart(media_type="image/png", data="AAAA")


async def sent(provider: str, name: str, **more: Any) -> tuple[dict[str, Any], ModelDone]:
    loop = asyncio.get_running_loop()
    tape = AnthropicTape() if provider == "anthropic" else GeminiTape()
    server = DialectServer(loop, Script(Rules()), Wheel(loop, tick_s=0.002), tape=tape)
    listener = await server.serve("127.0.0.1", 0)
    where = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    settings = ModelSettings.model_validate({f"{provider}_key": "k", f"{provider}_url": where})
    model = anthropic_model(settings) if provider == "anthropic" else google_model(settings)
    said = HistoryItem(id="t~0", turn="t", role="user", parts=(TextPart(text="look"), PICTURE), at_ms=0)
    async with model.stream(ModelRequest("s", "t", (said,), model=f"{provider}:{name}", **more)) as pieces:
        done = [piece async for piece in pieces][-1]
    await model.close()
    listener.close()
    await listener.wait_closed()
    assert isinstance(done, ModelDone)
    return server.bodies[0], done


@pytest.mark.parametrize(("provider", "name"), [("anthropic", "claude-opus-5"), ("google", "gemini-2.5-flash")])
async def test_a_provider_that_can_be_told_what_the_answer_must_be_is_told(provider: str, name: str) -> None:
    told, _ = await sent(provider, name, output=WANTED)
    plain, _ = await sent(provider, name)
    assert '"city"' in str(told).replace("'", '"')
    assert "city" not in str(plain)


async def test_a_picture_and_cached_tokens_of_anthropic() -> None:
    body, done = await sent("anthropic", "claude-opus-5", system="be kind", max_tokens=9)
    kinds = [block["type"] for block in body["messages"][0]["content"]]
    assert kinds == ["text", "image"]
    assert body["max_tokens"] == 9
    assert "cache_control" in str(body)
    assert done.usage is not None
    assert (done.usage.provider, done.usage.input_tokens, done.usage.cached_input_tokens) == ("anthropic", 12, 5)


async def test_a_picture_of_google() -> None:
    body, _ = await sent("google", "gemini-2.5-flash", system="be kind")
    parts = body["contents"][0]["parts"]
    assert parts[0]["text"] == "look"
    assert "image/png" in str(parts[1]["inlineData"])
    assert "be kind" in str(body["systemInstruction"])
