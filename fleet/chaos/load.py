"""Sends the traffic through Kafka and through the gateway, and hears the answers. Repeats what nobody knows, with the
same turn id, as the contract tells clients to.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from broker.kafka_publisher import KafkaPublisher
from broker.kafka_tail import KafkaTail
from broker.port import BrokerUnavailable, Outgoing, PublishError, PublishUnknown
from fleet.chaos.agents import POISON
from fleet.chaos.evidence import CONTROL, REPLIES, TURNS
from fleet.chaos.score import Score
from fleet.chaos.traffic import Ask, Traffic
from loadtest.waiting import until
from schemas.codec import control_headers, turn_headers
from schemas.ids import mint
from schemas.settings import KafkaSettings

SOURCE = "/turnfleet/fleet-chaos"
PAUSE_S = 0.5
REPEAT_FOR_S = 120.0


@dataclass(frozen=True, slots=True)
class Pace:
    """`rate` turns a second for `seconds`; then at most `grace_s` for the answers."""

    rate: float
    seconds: float
    grace_s: float = 60.0


class Load:
    """`async with`: connected."""

    def __init__(self, kafka: KafkaSettings, gateway_url: str, score: Score) -> None:
        self._score = score
        self._publisher = KafkaPublisher(kafka, (TURNS, CONTROL, REPLIES))
        self._kafka = kafka
        self._http = httpx.AsyncClient(base_url=gateway_url, trust_env=False, timeout=12.0)
        self._tails: list[KafkaTail] = []
        self._hearing: list[asyncio.Task[None]] = []
        self._sending: set[asyncio.Task[None]] = set()
        self._deciding: dict[str, Ask] = {}

    async def __aenter__(self) -> Load:
        await self._publisher.start()
        for partition in range(self._publisher.partition_count(REPLIES)):
            tail = KafkaTail(self._kafka)
            await tail.start(REPLIES, partition)
            self._tails.append(tail)
            self._hearing.append(asyncio.create_task(self._hear(tail), name=f"hear {partition}"))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (*self._sending, *self._hearing):
            task.cancel()
        await asyncio.gather(*self._sending, *self._hearing, return_exceptions=True)
        for tail in self._tails:
            await tail.stop()
        await self._publisher.stop()
        await self._http.aclose()

    async def poison(self, session: str) -> None:
        """A turn that kills every process that runs it."""
        value = orjson.dumps({"turn": mint(), "agent": POISON, "text": "die"})
        headers = turn_headers(mint(), source=SOURCE, now_ms=_now_ms())
        await self._until_known(lambda: self._publish(TURNS, session, value, headers))

    async def run(self, traffic: Traffic, pace: Pace) -> None:
        """Send for so long, then wait until everything that was accepted is answered, or the grace is over."""
        start_s = self._score.start_s
        next_s = start_s
        while (next_s := next_s + traffic.pause_s(pace.rate)) < start_s + pace.seconds:
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))
            self._begin(self._send(traffic.next()))
        await until(lambda: not (self._sending or self._score.unanswered), timeout_s=pace.grace_s, pause_s=0.1)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="send")
        self._sending.add(task)
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._score.wrong.append(f"the load itself failed: {error!r}")

    async def _hear(self, tail: KafkaTail) -> None:
        with contextlib.suppress(BrokerUnavailable):  # closed
            while True:
                for record in await tail.batch():
                    frame = orjson.loads(record.value or b"{}")
                    self._score.heard(frame)
                    if frame.get("type") == "approval_requested" and (ask := self._deciding.pop(frame["turn"], None)):
                        self._begin(self._decide(ask))

    async def _send(self, ask: Ask) -> None:
        if not ask.again:
            self._score.offered(ask)
        if ask.approve_after_s is not None and not ask.blindly:
            self._deciding[ask.turn] = ask
        send = self._over_http if ask.by_gateway else self._over_kafka
        if await self._until_known(lambda: send(ask)) and not ask.again:
            self._score.accepted(ask)
        if ask.cancel_after_s is not None:
            await asyncio.sleep(ask.cancel_after_s)
            await self._command(ask, "cancel", turn=ask.turn)
        if ask.blindly:
            await self._decide(ask)
        if ask.delete_after_s is not None:
            await asyncio.sleep(ask.delete_after_s)
            await self._command(ask, "delete")

    async def _decide(self, ask: Ask) -> None:
        assert ask.approve_after_s is not None
        await asyncio.sleep(ask.approve_after_s)
        await self._command(ask, "approve", turn=ask.turn, call=ask.call, decision="allow")

    async def _until_known(self, send: Callable[[], Awaitable[bool]]) -> bool:
        """Repeat until somebody says that it is in; whether."""
        end_s = time.monotonic() + REPEAT_FOR_S
        while not await send():
            self._score.repeated += 1
            if time.monotonic() > end_s:
                return False
            await asyncio.sleep(PAUSE_S)
        return True

    async def _over_kafka(self, ask: Ask) -> bool:
        headers = turn_headers(ask.turn, source=SOURCE, now_ms=_now_ms())
        return await self._publish(TURNS, ask.session, orjson.dumps(ask.value), headers)

    async def _command(self, ask: Ask, kind: str, **more: str) -> None:
        """A control op, repeated with the same op id until it is in."""
        self._score.commanded(kind)
        op = mint()
        value = {"op": op, "kind": kind, "user": "load" if ask.by_gateway else "anonymous", **more}
        headers = control_headers(op, source=SOURCE, now_ms=_now_ms())
        await self._until_known(lambda: self._publish(CONTROL, ask.session, orjson.dumps(value), headers))

    async def _publish(self, topic: str, session: str, value: bytes, headers: list[tuple[str, bytes]]) -> bool:
        try:
            await self._publisher.send(Outgoing(topic, session.encode(), value, headers=headers))
        except (PublishUnknown, PublishError):
            return False
        return True

    async def _over_http(self, ask: Ask) -> bool:
        try:
            answer = await self._http.post(
                f"/v1/sessions/{ask.session}/turns", json=ask.value, headers={"X-Fleet-User": "load"}
            )
        except httpx.HTTPError:
            return False
        if answer.status_code in (200, 202):
            return True
        self._score.status(answer.status_code)
        return False


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
