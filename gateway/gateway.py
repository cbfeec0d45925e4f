"""What one gateway is made of: built once by the composition root, handed to every connection. No behaviour."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.access import Access
from gateway.attach import Attach
from gateway.intake import Intake
from gateway.lookup import Lookup
from gateway.metrics import Metrics
from gateway.ops import Ops
from gateway.publishing import Address
from gateway.readiness import Readiness
from gateway.replies import Replies
from gateway.router import Router
from gateway.waiting import Waiting
from journal.port import Store
from schemas.limits import Limits
from schemas.settings import GatewaySettings


@dataclass(frozen=True, slots=True)
class Gateway:
    """`draining` is set once, when no new work is taken; `idle_ms`: how long a session may be idle, for people to see.

    `busy`: publishes under way, awaited before a drain closes the connections; `waiting`: ops whose ack has not come;
    `open`: the WebSockets.
    """

    address: Address
    settings: GatewaySettings
    limits: Limits
    store: Store
    router: Router
    intake: Intake
    ops: Ops
    attach: Attach
    access: Access
    lookup: Lookup
    replies: Replies
    turns_waiting: Waiting
    readiness: Readiness
    metrics: Metrics
    clock_ms: Callable[[], int]
    idle_ms: int
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    busy: set[asyncio.Task[None]] = field(default_factory=set)
    waiting: set[asyncio.Task[None]] = field(default_factory=set)
    open: set[asyncio.Task[None]] = field(default_factory=set)
