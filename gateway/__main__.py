"""Composes and runs one gateway: settings, adapters, application, server. Decides nothing else."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import uvloop
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from broker.kafka_admin import KafkaAdmin
from broker.kafka_publisher import KafkaPublisher
from broker.kafka_tail import KafkaTail
from broker.partition import partition_of
from broker.port import BrokerUnavailable
from broker.topics import TopicsMismatch, require_topics
from gateway.compose import Ports, make_gateway
from gateway.identity import DEVELOPMENT
from gateway.intake import TURNS
from gateway.logs import configure
from gateway.ops import CONTROL
from gateway.publishing import Address
from gateway.replies import REPLIES
from gateway.serve import bind, serve
from journal.mongo import MongoStore
from journal.port import StoreMismatch, StoreUnavailable
from schemas.ids import mint
from schemas.settings import (
    GatewaySettings,
    KafkaSettings,
    MongoSettings,
    SessionSettings,
    WorkerSettings,
    complaint,
    unknown_variables,
)
from schemas.topics import Topics, load_topics

_START_S = 10.0
_CANNOT_START = 2
_TOPICS = (TURNS, CONTROL, REPLIES)
_T = TypeVar("_T")
_log = logging.getLogger("gateway")


class CannotStart(Exception):
    """The text is one sentence: what is wrong and what to do."""


def main() -> int:
    """Run until SIGTERM or SIGINT. Exit code 2, and one sentence on stderr, when it cannot start."""
    try:
        uvloop.run(run())
    except CannotStart as error:
        sys.stderr.write(f"gateway: {error}\n")
        return _CANNOT_START
    return 0


async def run() -> None:
    """Start the parts within 10 s, serve, stop them in the opposite order. Raises CannotStart."""
    try:
        kafka, mongo, settings = KafkaSettings(), MongoSettings(), GatewaySettings()
        sessions, logs = SessionSettings(), WorkerSettings()
    except ValidationError as error:
        raise CannotStart(f"{complaint(error)}; docs/settings.md lists them") from None
    configure(logs.log_format, logs.log_level)
    for sentence in unknown_variables(os.environ):
        _log.warning(sentence)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await _serve(kafka, mongo, settings, sessions, stop)


async def _serve(
    kafka: KafkaSettings,
    mongo: MongoSettings,
    settings: GatewaySettings,
    sessions: SessionSettings,
    stop: asyncio.Event,
) -> None:
    topics = _topics(kafka)
    admin, publisher, tail = KafkaAdmin(kafka), KafkaPublisher(kafka, _TOPICS), KafkaTail(kafka)
    store = await _started(_store(mongo))
    try:
        bound = bind(settings.gateway_host, settings.gateway_port)
    except OSError as error:
        where = f"{settings.gateway_host}:{settings.gateway_port}"
        raise CannotStart(f"{where} cannot be listened on ({error.strerror}): set FLEET_GATEWAY_PORT") from None

    async def topics_right() -> str | None:
        await require_topics(admin, topics, _TOPICS)
        return None

    async def store_writable() -> str | None:
        return None if await store.ping() else "no majority write works"

    try:
        await _started(topics_right())
        await _started(publisher.start())
        address = _address(publisher)
        ports = Ports(publisher, tail, store, {"topics": topics_right, "mongodb": store_writable})
        gateway = make_gateway(ports, address, settings=settings, sessions=sessions, registry=CollectorRegistry())
        await _started(gateway.replies.start())
        host, port = bound.getsockname()[:2]

        def started() -> None:
            _log.warning(DEVELOPMENT)
            _log.info("listening", extra={"host": host, "port": port, "gateway": address.incarnation})

        _calm_gc()
        await serve(gateway, bound, stop, started)
    finally:
        bound.close()
        await _stopped(tail.stop, publisher.stop, admin.stop, store.stop)


def _calm_gc() -> None:
    """Frames kept for coming back live long. What is there now stays for ever; the rest is looked at rarely, so that no
    frame waits while everything is looked at."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _topics(kafka: KafkaSettings) -> Topics:
    try:
        return load_topics(kafka.topics_file)
    except (OSError, ValueError) as error:
        raise CannotStart(f"the list of topics cannot be read ({error}): set FLEET_TOPICS_FILE") from None


def _address(publisher: KafkaPublisher) -> Address:
    """Which partition of the replies this incarnation reads: the one that its id hashes to."""
    incarnation = mint()[:12]
    return Address(partition_of(incarnation.encode(), publisher.partition_count(REPLIES)), incarnation)


async def _store(mongo: MongoSettings) -> MongoStore:
    if not mongo.mongo_uri:
        raise CannotStart("FLEET_MONGO_URI is empty: set it to a replica set, or use `fleet up`")
    store = MongoStore(mongo)
    await store.start()
    return store


async def _started(work: Awaitable[_T]) -> _T:
    try:
        async with asyncio.timeout(_START_S):
            return await work
    except (BrokerUnavailable, TopicsMismatch, StoreMismatch, StoreUnavailable) as error:
        raise CannotStart(" ".join(str(error).split())) from None
    except TimeoutError:
        raise CannotStart("no answer within 10 s: check FLEET_KAFKA_BOOTSTRAP and FLEET_MONGO_URI") from None


async def _stopped(*stops: Callable[[], Awaitable[None]]) -> None:
    for stopping in stops:
        try:
            await stopping()
        except Exception:  # noqa: BLE001 - the others are to be stopped as well
            _log.exception("a part did not stop in order")


if __name__ == "__main__":
    sys.exit(main())
