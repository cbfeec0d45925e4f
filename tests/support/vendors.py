"""What the vendors' own client packages say of a request that we would send: their types, read to the end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from anthropic.types import MessageParam
from openai.types.chat import ChatCompletionMessageParam
from pydantic import TypeAdapter
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider

from schemas.history import HistoryItem
from workers.models.library_messages import messages_of
from workers.models.openai_messages import body_of
from workers.models.port import ModelRequest

OPENAI = TypeAdapter(list[ChatCompletionMessageParam])
ANTHROPIC = TypeAdapter(list[MessageParam])
CLAUDE = AnthropicModel("claude-sonnet-4-5", provider=AnthropicProvider(api_key="k"))


def check_openai(items: Sequence[HistoryItem]) -> None:
    """OpenAI's types take it, the system message first."""
    body = json.loads(body_of(ModelRequest("s", "t", items, system="be kind"), "m", with_usage=True))
    check_whole(OPENAI.validate_python(body["messages"]))
    assert body["messages"][0]["role"] == "system"


async def check_anthropic(items: Sequence[HistoryItem]) -> None:
    """Anthropic's types take it: roles in turn, a user first, nothing empty."""
    found = await anthropics(items)
    check_whole(ANTHROPIC.validate_python(found))
    roles = [message["role"] for message in found]
    assert all(one != other for one, other in pairwise(roles))
    assert roles[:1] in ([], ["user"])
    assert all(message["content"] for message in found)


async def anthropics(items: Sequence[HistoryItem]) -> list[Any]:
    """As they are sent to Anthropic."""
    messages = messages_of(ModelRequest("s", "t", items, system="be kind"), addresses=True)
    _, found = await CLAUDE._map_message(messages, ModelRequestParameters(), {})
    return list(found)


def check_whole(value: Any) -> None:
    """An Iterable of a type is validated while it is read."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for each in value:
            check_whole(each)
