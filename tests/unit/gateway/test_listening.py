"""A request that follows a turn, and the stream that it becomes."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from broker.memory import MemoryCluster, MemoryPublisher, MemoryTail
from gateway.compose import Ports, make_gateway
from gateway.gateway import Gateway
from gateway.identity import Principal
from gateway.listening import Listening
from gateway.publishing import Address
from gateway.sse import EventStream
from journal.memory import MemoryStore
from schemas.settings import GatewaySettings, SessionSettings
from tests.unit.gateway.frames import completed, delta, started

ANN = Principal("default", "ann")


@pytest.fixture
def gateway() -> Gateway:
    cluster = MemoryCluster()
    ports = Ports(MemoryPublisher(cluster, []), MemoryTail(cluster), MemoryStore(), {})
    settings = GatewaySettings(gateway_socket_bytes=4_096)
    return make_gateway(
        ports, Address(0, "g"), settings=settings, sessions=SessionSettings(), registry=CollectorRegistry()
    )


def following(gateway: Gateway, turn: str | None) -> Listening:
    listening = Listening(gateway, ANN)
    gateway.router.follow(listening.reader, "s", turn)
    return listening


async def streamed(stream: EventStream) -> str:
    """What a client of the stream reads."""
    text: list[str] = []

    async def send(message: Any) -> None:
        text.append(message.get("body", b"").decode())

    async def receive() -> Any:
        await asyncio.Event().wait()

    await stream(cast("Any", {"type": "http", "asgi": {"spec_version": "2.4"}}), receive, send)
    return "".join(text)


async def test_a_stream_ends_with_its_turn_and_follows_nothing_any_more(gateway: Gateway) -> None:
    listening = following(gateway, "t")
    for event in (started(), delta(1, "a"), completed(2, "a")):
        gateway.router.deliver(event)

    text = await streamed(EventStream(gateway, listening, of_session=False))

    assert [line for line in text.split("\n") if line.startswith("id: ")] == ["id: 1-0", "id: 1-1", "id: 1-2"]
    assert listening.reader.follows == set()


async def test_a_stream_that_is_silent_says_that_it_lives(gateway: Gateway) -> None:
    listening = following(gateway, "t")
    asyncio.get_running_loop().call_later(0.02, gateway.router.deliver, completed(0, "a"))

    text = await streamed(EventStream(gateway, listening, of_session=False, comment_s=0.001))

    assert text.startswith(": alive\n\n")
    assert "completed" in text


async def test_a_stream_that_nobody_reads_ends_and_holds_nothing(gateway: Gateway) -> None:
    listening = following(gateway, None)
    for number in range(100):
        gateway.router.deliver(completed(0, "x" * 100, turn=f"t{number}"))

    assert listening.outbox.overflowed
    assert listening.outbox.bytes == 0
    assert await streamed(EventStream(gateway, listening, of_session=True)) == ""


async def test_a_drain_ends_the_streams(gateway: Gateway) -> None:
    listening = following(gateway, None)
    gateway.draining.set()

    assert await streamed(EventStream(gateway, listening, of_session=True)) == ""


async def test_an_outcome_is_awaited_no_longer_than_asked(gateway: Gateway) -> None:
    with following(gateway, "t") as listening:
        gateway.router.deliver(started())
        assert await listening.outcome(0.01) is None
        gateway.router.deliver(completed(1, "a"))
        outcome = await listening.outcome(1)

    assert outcome is not None
    assert outcome.text == "a"
