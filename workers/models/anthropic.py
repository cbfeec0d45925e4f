"""Anthropic's models. Knows how their client is made; the library does the rest."""

from __future__ import annotations

import anthropic
import httpx2
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider

from schemas.settings import ModelSettings
from workers.models.library import LibraryModel
from workers.models.port import ModelMisconfigured


def anthropic_model(settings: ModelSettings) -> LibraryModel:
    """The adapter. Raises ModelMisconfigured without a key."""
    key = settings.anthropic_key.strip()
    if not key or not key.isascii():
        raise ModelMisconfigured("a model `anthropic:…` wants a key: set FLEET_ANTHROPIC_KEY")
    client = anthropic.AsyncAnthropic(
        api_key=key,
        base_url=settings.anthropic_url or None,
        max_retries=0,
        http_client=anthropic.DefaultAsyncHttpxClient(
            limits=httpx2.Limits(max_connections=None),
            timeout=httpx2.Timeout(None, connect=settings.model_connect_timeout_s),
        ),
    )
    provider = AnthropicProvider(anthropic_client=client)
    return LibraryModel(
        "anthropic",
        lambda name: AnthropicModel(name, provider=provider),
        settings,
        close=client.close,
        addresses=True,
        said={"cache": True},
    )
