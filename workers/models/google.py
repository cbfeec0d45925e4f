"""Google's models, through the Gemini API. Knows how their client is made; the library does the rest."""

from __future__ import annotations

import httpx2
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.providers.google import GoogleProvider

from schemas.settings import ModelSettings
from workers.models.library import LibraryModel
from workers.models.library_answer import note_response
from workers.models.port import ModelMisconfigured


def google_model(settings: ModelSettings) -> LibraryModel:
    """The adapter. Raises ModelMisconfigured without a key."""
    key = settings.google_key.strip()
    if not key or not key.isascii():
        raise ModelMisconfigured("a model `google:…` wants a key: set FLEET_GOOGLE_KEY")
    client = httpx2.AsyncClient(
        limits=httpx2.Limits(max_connections=None),
        event_hooks={"response": [note_response]},
        timeout=httpx2.Timeout(settings.model_total_timeout_s, connect=settings.model_connect_timeout_s),
    )
    provider = GoogleProvider(api_key=key, http_client=client, base_url=settings.google_url or None)
    return LibraryModel("google", lambda name: GoogleModel(name, provider=provider), settings, close=client.aclose)
