"""How every aiokafka client here connects: addresses, security, and one sentence when it cannot.

Knows the settings; nothing of topics or records.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, TypeVar

from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.helpers import create_ssl_context

from broker.port import BrokerUnavailable
from schemas.settings import KafkaSettings

START_TIMEOUT_S = 6.0
REQUEST_TIMEOUT_MS = 9_000
RETRY_BACKOFF_MS = 100

log = logging.getLogger(__name__)

T = TypeVar("T")


def client_options(settings: KafkaSettings, role: str) -> dict[str, Any]:
    """Keyword arguments that every aiokafka client takes. BrokerUnavailable: no address, or certificates unreadable."""
    if not settings.kafka_bootstrap:
        raise BrokerUnavailable("FLEET_KAFKA_BOOTSTRAP is empty: set it to the brokers, `host:port`, comma separated")
    return {
        "bootstrap_servers": [address.strip() for address in settings.kafka_bootstrap.split(",")],
        "client_id": f"turnfleet-{role}",
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "retry_backoff_ms": RETRY_BACKOFF_MS,
        "security_protocol": settings.kafka_security_protocol,
        "sasl_mechanism": settings.kafka_sasl_mechanism,
        "sasl_plain_username": settings.kafka_sasl_username or None,
        "sasl_plain_password": settings.kafka_sasl_password or None,
        "ssl_context": _ssl_context(settings),
    }


async def in_time(settings: KafkaSettings, work: Awaitable[T], timeout_s: float = START_TIMEOUT_S) -> T:
    """Await a client's first contact; whatever keeps it from answering in time becomes BrokerUnavailable."""
    try:
        async with asyncio.timeout(timeout_s):
            return await work
    except (KafkaError, OSError, TimeoutError) as error:
        raise unavailable(settings, error) from error


def unavailable(settings: KafkaSettings, error: BaseException) -> BrokerUnavailable:
    """One sentence: who did not answer, what was seen, what to do."""
    seen = str(error) or type(error).__name__
    if isinstance(error, TimeoutError | KafkaConnectionError):
        seen = "nothing answers there"
    advice = "check FLEET_KAFKA_BOOTSTRAP and FLEET_KAFKA_SECURITY_PROTOCOL, and that the broker runs"
    return BrokerUnavailable(f"no usable Kafka broker at {settings.kafka_bootstrap} ({seen}): {advice}")


async def close_consumer(consumer: Any, timeout_s: float) -> None:
    """Stop an aiokafka consumer in bounded time, and disconnect whatever its own `stop` left behind.

    While the broker is away, `stop` raises the CancelledError of a fetch that it has cancelled itself (aiokafka 0.14).
    """
    try:
        await asyncio.wait_for(consumer.stop(), timeout_s)
        return
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
    except (KafkaError, TimeoutError) as error:
        log.warning("closing a consumer: %r", error)
    await consumer._client.close()


def _ssl_context(settings: KafkaSettings) -> Any:
    if not settings.kafka_security_protocol.endswith("SSL"):
        return None
    try:
        return create_ssl_context(
            cafile=settings.kafka_ssl_cafile or None,
            certfile=settings.kafka_ssl_certfile or None,
            keyfile=settings.kafka_ssl_keyfile or None,
        )
    except OSError as error:
        raise BrokerUnavailable(f"the files of FLEET_KAFKA_SSL_… cannot be read ({error}): check the paths") from error
