"""The one partition of `agent.replies` that this gateway reads. Knows nothing of who is attached."""

from __future__ import annotations

import logging

from broker.port import BrokerUnavailable, Tail
from gateway.event import parse_event
from gateway.metrics import Metrics
from gateway.publishing import Address
from gateway.router import Router
from gateway.waiting import Waiting
from schemas.codec import Headers

REPLIES = "agent.replies"
_log = logging.getLogger("gateway.replies")


class Replies:
    """Reads batch after batch and hands each frame that is for us to the router."""

    def __init__(self, tail: Tail, router: Router, waiting: Waiting, *, address: Address, metrics: Metrics) -> None:
        self._tail = tail
        self._router = router
        self._waiting = waiting
        self._partition = address.partition
        self._reply_to = address.reply_to.encode()
        self._metrics = metrics
        self.running = False

    async def start(self) -> None:
        """Every frame that is published after this returns is seen. Raises BrokerUnavailable."""
        await self._tail.start(REPLIES, self._partition)
        self.running = True

    async def run(self) -> None:
        """Until the tail is stopped; a frame that cannot be delivered harms nobody but itself."""
        try:
            while True:
                for record in await self._tail.batch():
                    try:
                        self._take(record.value, record.headers)
                    except Exception:  # noqa: BLE001 - the others' frames go on
                        _log.exception("a frame could not be delivered")
        except BrokerUnavailable:
            return
        finally:
            self.running = False

    async def stop(self) -> None:
        await self._tail.stop()

    def _take(self, value: bytes | None, headers: Headers) -> None:
        """Ours: addressed to this incarnation, or to nobody (a producer that asked for no answer)."""
        for name, to in headers:
            if name == "reply_to" and to != self._reply_to:
                self._metrics.skipped.labels("other_gateway").inc()
                return
        event = parse_event(value) if value is not None else None
        if event is None:
            self._metrics.skipped.labels("unreadable").inc()
            return
        self._metrics.received.inc()
        self._waiting.heard(event)
        self._router.deliver(event)
