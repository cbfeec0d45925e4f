"""The models of Amazon Bedrock. Knows how its client is made; the library does the rest, in threads."""

from __future__ import annotations

import asyncio
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.session import Session
from botocore.tokens import FrozenAuthToken
from pydantic_ai.exceptions import UserError
from pydantic_ai.models.bedrock import BedrockConverseModel
from pydantic_ai.providers.bedrock import BedrockProvider

from schemas.settings import ModelSettings
from workers.models.library import LibraryModel
from workers.models.port import ModelMisconfigured

_CONNECTIONS = 256


class _Keyed(Session):  # type: ignore[misc]
    """A session that knows one API key and looks for no other credentials."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key

    def get_auth_token(self, **_: Any) -> FrozenAuthToken:
        return FrozenAuthToken(self._key)

    def get_credentials(self) -> None:
        return None


def _client(settings: ModelSettings, config: Config) -> Any:
    key, region = settings.bedrock_key.strip(), settings.bedrock_region or None
    if key:
        config = config.merge(Config(signature_version="bearer"))
    session = boto3.Session(botocore_session=_Keyed(key) if key else None, region_name=region)
    return session.client("bedrock-runtime", config=config, endpoint_url=settings.bedrock_url or None)


def bedrock_model(settings: ModelSettings) -> LibraryModel:
    """The adapter. Raises ModelMisconfigured where no client can be made of what is set."""
    if settings.bedrock_key.strip() and settings.bedrock_url.startswith("http:"):
        raise ModelMisconfigured("FLEET_BEDROCK_KEY goes to an address with https alone: see FLEET_BEDROCK_URL")
    patience_s = max(settings.model_first_token_timeout_s, settings.model_idle_timeout_s)
    config = Config(
        connect_timeout=settings.model_connect_timeout_s,
        read_timeout=patience_s,
        retries={"total_max_attempts": 1},
        max_pool_connections=_CONNECTIONS,
    )
    try:
        client = _client(settings, config)
    except (BotoCoreError, UserError, ValueError) as error:
        raise ModelMisconfigured(f"a model `bedrock:…` cannot be asked: {error}; set FLEET_BEDROCK_REGION") from None
    provider = BedrockProvider(bedrock_client=client)

    async def close() -> None:
        await asyncio.to_thread(client.close)

    return LibraryModel(
        "bedrock",
        lambda name: BedrockConverseModel(name, provider=provider),
        settings,
        close=close,
        said={"cache": True},
    )
