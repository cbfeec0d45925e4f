"""No key of a provider is in an error, a log line, a frame or a repr, though a server repeats all that it was sent."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from broker.kafka_admin import KafkaAdmin
from broker.port import BrokerUnavailable
from journal.mongo import MongoStore
from journal.port import StoreUnavailable
from schemas.errors import RetryableError, TerminalError
from schemas.settings import KafkaSettings, ModelSettings, MongoSettings
from tests.support.ports import free_port
from tests.support.stage import Stage
from workers.agent import AgentTurn
from workers.context import Context
from workers.models.anthropic import anthropic_model
from workers.models.google import google_model
from workers.models.openai_compatible import OpenAICompatibleModel
from workers.models.port import Model, ModelMisconfigured
from workers.models.retry import ModelCaller

CANARY = "sk-canary-0123456789"
MAKERS: dict[str, tuple[str, Callable[[ModelSettings], Model]]] = {
    "openai": ("model", OpenAICompatibleModel),
    "anthropic": ("anthropic", anthropic_model),
    "google": ("google", google_model),
}


@asynccontextmanager
async def parrot(status: int, *, streamed: bool = False) -> AsyncIterator[int]:
    """A server that repeats the lines of the request that hold a key, as an error or as an event."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        said = "; ".join(line for line in head.splitlines() if CANARY in line)
        body = f'{{"error": {{"message": "no: {said}", "type": "x", "status": "x", "code": {status}}}}}'
        kind = "application/json"
        if streamed:
            body, kind = f"event: error\ndata: {body}\n\n", "text/event-stream"
        head = f"HTTP/1.1 {status} No\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close"
        writer.write(f"{head}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def asks(turn: AgentTurn, ctx: Context) -> None:
    try:
        await ctx.model("hi", show=False)
    except (RetryableError, TerminalError):
        logging.getLogger("fleet.worker").exception("an agent logs what it caught")
        raise


@pytest.mark.parametrize(("status", "streamed"), [(401, False), (400, False), (429, False), (503, False), (200, True)])
@pytest.mark.parametrize("provider", MAKERS)
async def test_a_server_that_repeats_the_key_does_not_spread_it(
    provider: str, status: int, streamed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    field, make = MAKERS[provider]
    async with parrot(status, streamed=streamed) as port:
        where = f"http://127.0.0.1:{port}" + ("/v1" if provider == "openai" else "")
        name = "m" if provider == "openai" else f"{provider}:m"
        given: dict[str, Any] = {f"{field}_key": CANARY, f"{field}_url": where, "model": name, "model_attempts": 1}
        settings = ModelSettings(**given)
        model = make(settings)
        stage = Stage(asks)
        stage.executor.services = replace(stage.executor.services, models=ModelCaller(model, settings))
        stage.job.model = name
        result = await stage.play()
        await model.close()
    assert result.outcome == "failed"
    if not streamed:
        assert "[key]" in result.message  # else nothing was repeated, and this proves nothing
    assert CANARY not in f"{result} {stage.executor.services.models.model!r} {settings!r} {settings}"
    assert "an agent logs" in caplog.text
    assert CANARY not in caplog.text


@pytest.mark.parametrize("url", [f"http://user:{CANARY}@[::1", f"ftp://user:{CANARY}@h/v1", f"h?key={CANARY}"])
def test_an_address_that_is_none_is_not_repeated(url: str) -> None:
    with pytest.raises(ModelMisconfigured, match="FLEET_MODEL_URL") as refused:
        OpenAICompatibleModel(ModelSettings(model_url=url))
    assert CANARY not in "".join(traceback.format_exception(refused.value))


def test_settings_do_not_show_what_is_secret() -> None:
    url = f"https://user:{CANARY}@h/?key={CANARY}"
    urls: dict[str, Any] = {f"{name}_url": url for name in ("model", "anthropic", "google", "bedrock")}
    keys: dict[str, Any] = {f"{name}_key": CANARY for name in ("model", "anthropic", "google", "bedrock")}
    shown = [ModelSettings(**urls, **keys), KafkaSettings(kafka_sasl_password=CANARY), MongoSettings(mongo_uri=url)]
    assert CANARY not in f"{shown} {[str(each) for each in shown]}"


async def test_a_store_that_cannot_be_reached_is_said_without_its_password() -> None:
    uri = f"mongodb://user:{CANARY}@127.0.0.1:{free_port()}/?replicaSet=rs0&authSource=admin"
    store = MongoStore(MongoSettings(mongo_uri=uri, mongo_timeout_s=0.5))
    with pytest.raises(StoreUnavailable) as refused:
        await store.start()
    await store.stop()
    assert CANARY not in "".join(traceback.format_exception(refused.value))


async def test_a_broker_that_cannot_be_reached_is_said_without_its_password() -> None:
    settings = KafkaSettings(
        kafka_bootstrap=f"127.0.0.1:{free_port()}",
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_username="user",
        kafka_sasl_password=CANARY,
    )
    with pytest.raises(BrokerUnavailable) as refused:
        await KafkaAdmin(settings).brokers()
    assert CANARY not in "".join(traceback.format_exception(refused.value))
