from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from broker.kafka_pace import pace


class FetchRequest:
    """The name is what counts."""


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self.slept_s: list[float] = []
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(asyncio, "sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def consumer(clock: Clock, *, data: bytes = b"", error: int = 0, took_s: float = 0.0, gather_s: float = 0.0) -> Any:
    async def send(node_id: int, request: object, **options: object) -> object:
        clock.now_s += took_s
        return SimpleNamespace(topics=[("t", [(0, error, 7, data)])])

    found = SimpleNamespace(_client=SimpleNamespace(send=send))
    pace(found, gather_s)
    return found


async def test_an_empty_fetch_that_came_back_at_once_waits_longer_the_longer_it_is_quiet(clock: Clock) -> None:
    client = consumer(clock)._client
    await client.send(1, FetchRequest())
    clock.now_s += 0.5
    await client.send(1, FetchRequest())
    clock.now_s += 60
    await client.send(1, FetchRequest())
    assert clock.slept_s == pytest.approx([0.001, 0.00501, 0.02])


async def test_a_broker_that_holds_empty_fetches_back_is_not_slowed(clock: Clock) -> None:
    await consumer(clock, took_s=0.1)._client.send(1, FetchRequest())
    assert clock.slept_s == []


@pytest.mark.parametrize("answer", [{"data": b"records"}, {"error": 6}])
async def test_records_and_errors_pass_at_once(clock: Clock, answer: dict[str, Any]) -> None:
    client = consumer(clock, **answer)._client
    response = await client.send(1, FetchRequest())
    assert response.topics[0][0] == "t"
    assert clock.slept_s == []


async def test_other_requests_are_left_alone(clock: Clock) -> None:
    await consumer(clock)._client.send(1, object())
    assert clock.slept_s == []


async def test_records_that_follow_each_other_closely_are_gathered_into_one_fetch(clock: Clock) -> None:
    client = consumer(clock, data=b"records", gather_s=0.002)._client
    clock.now_s += 1
    await client.send(1, FetchRequest())
    assert clock.slept_s == []
    clock.now_s += 0.0005
    await client.send(1, FetchRequest())
    assert clock.slept_s == pytest.approx([0.0015])


async def test_a_record_that_comes_alone_waits_for_nothing_and_brokers_do_not_slow_each_other(clock: Clock) -> None:
    client = consumer(clock, data=b"records", gather_s=0.002)._client
    clock.now_s += 1
    await client.send(1, FetchRequest())
    await client.send(2, FetchRequest())
    clock.now_s += 0.003
    await client.send(1, FetchRequest())
    assert clock.slept_s == []
