"""Puts a gateway together out of ports and settings. Opens nothing, starts nothing, knows no adapter."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from broker.port import Publisher, Tail
from gateway.access import Access
from gateway.attach import Attach
from gateway.event import now_ms
from gateway.gateway import Gateway
from gateway.intake import Intake
from gateway.lookup import Lookup
from gateway.metrics import Metrics
from gateway.ops import Ops
from gateway.overload import Overload
from gateway.publishing import Address, Publishing
from gateway.readiness import Check, Readiness
from gateway.replies import Replies
from gateway.ring import Ring
from gateway.router import Router
from gateway.waiting import Waiting
from journal.port import Store
from schemas.limits import Limits
from schemas.settings import GatewaySettings, SessionSettings


@dataclass(frozen=True, slots=True)
class Ports:
    """What a gateway needs of the world, started or not. `checks`: what readiness asks beside the tail."""

    publisher: Publisher
    tail: Tail
    store: Store
    checks: Mapping[str, Check]


def make_gateway(
    ports: Ports, address: Address, *, settings: GatewaySettings, sessions: SessionSettings, registry: CollectorRegistry
) -> Gateway:
    """The gateway, ready to be served once its replies run."""
    metrics = Metrics(registry)
    limits = Limits(content_bytes=sessions.content_bytes)
    router = Router(Ring(max_turns=settings.gateway_ring_turns, max_bytes=settings.gateway_ring_bytes), metrics)
    lookup = Lookup(ports.store)
    access = Access(lookup, router)
    publishing = Publishing(ports.publisher, address, metrics=metrics, clock_ms=now_ms)
    turn_timeout_ms = int(sessions.turn_timeout_s * 1_000)
    waiting = Waiting(clock_s=time.monotonic)
    overload = Overload(waiting, limit_s=settings.gateway_queue_age_s, clock_s=time.monotonic, metrics=metrics)
    intake = Intake(publishing, router, access, overload, limits=limits, turn_timeout_ms=turn_timeout_ms)
    ops = Ops(publishing, router)
    replies = Replies(ports.tail, router, waiting, address=address, metrics=metrics)

    async def reading() -> str | None:
        return None if replies.running else "the reply topic is not being read"

    return Gateway(
        turns_waiting=waiting,
        address=address,
        settings=settings,
        limits=limits,
        store=ports.store,
        router=router,
        intake=intake,
        ops=ops,
        attach=Attach(access, lookup, router, ops, metrics),
        access=access,
        lookup=lookup,
        replies=replies,
        readiness=Readiness({**ports.checks, "replies": reading}, clock_s=time.monotonic),
        metrics=metrics,
        clock_ms=now_ms,
        idle_ms=sessions.session_idle_s * 1_000,
    )
