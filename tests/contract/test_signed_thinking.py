"""Within a turn's tool loop a provider wants its signed thinking back, before the calls that it led to."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import ThinkingBlockParam
from pydantic import TypeAdapter
from pydantic_ai.messages import ModelResponse, ThinkingPart, ToolCallPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.providers.google import GoogleProvider

from schemas.history import HistoryItem, ToolCall, said
from schemas.parts import plain_text
from tests.support.vendors import CLAUDE, anthropics
from workers.models.library_messages import messages_of
from workers.models.port import ModelRequest

ASKED = said("t~0", turn="t", role="user", text="how warm is it?", at_ms=0)
CALLED = HistoryItem(
    id="t~1", turn="t", role="assistant", parts=(), at_ms=0, calls=(ToolCall(call="c1", name="look", arguments={}),)
)
RESULT = HistoryItem(id="t~2", turn="t", role="tool", parts=(plain_text("21"),), at_ms=0, call="c1")


async def test_the_library_sends_signed_thinking_back_where_it_is_kept() -> None:
    """What ours would have to keep: the blocks as they came, their signature, who signed."""
    thought = ThinkingPart("I look.", signature="c2lnbmVk", provider_name="anthropic")
    kept = ModelResponse([thought, ToolCallPart("look", {}, "c1")], provider_name="anthropic")
    _, found = await CLAUDE._map_message([kept], ModelRequestParameters(), {})
    (message,) = list(found)
    blocks: Any = message["content"]
    block = TypeAdapter(ThinkingBlockParam).validate_python(next(iter(blocks)))
    assert block == {"type": "thinking", "thinking": "I look.", "signature": "c2lnbmVk"}


@pytest.mark.xfail(
    strict=True, reason="our history keeps no thinking: a ToolCall has no place for what a provider signed"
)
async def test_ours_sends_signed_thinking_back_with_the_results() -> None:
    found = await anthropics([ASKED, CALLED, RESULT])
    answered = next(message for message in found if message["role"] == "assistant")
    assert answered["content"][0]["type"] == "thinking"


async def test_gemini_takes_a_call_without_its_signature_by_the_documented_stand_in() -> None:
    model = GoogleModel("gemini-3-pro-preview", provider=GoogleProvider(api_key="k"))
    sent = messages_of(ModelRequest("s", "t", [ASKED, CALLED, RESULT]), addresses=False)
    contents: list[Any] = list((await model._map_messages(sent, ModelRequestParameters()))[1])
    (call,) = [part for one in contents for part in one.get("parts") or [] if part.get("function_call")]
    assert call["thought_signature"] == b"skip_thought_signature_validator"
