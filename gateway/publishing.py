"""The way from this gateway to the broker: one record, acknowledged or refused with a code. Knows no session."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from broker.partition import partition_of
from broker.port import BrokerUnavailable, Outgoing, Position, Publisher, PublishError, PublishUnknown
from gateway.metrics import Metrics
from schemas.codes import Code
from schemas.errors import Refusal

_RETRY_AFTER_MS = 1_000


class PublishRefusal(Refusal):
    """A record that is not in the log, or of which nobody knows. `turn`: with which to try again."""

    def __init__(self, code: Code, text: str, turn: str | None) -> None:
        super().__init__(code, text)
        self.turn = turn
        self.retry_after_ms = _RETRY_AFTER_MS


@dataclass(frozen=True, slots=True)
class Address:
    """Where answers for this gateway go: `reply_to` of everything that it publishes. `source`: its name there."""

    partition: int
    incarnation: str

    @property
    def reply_to(self) -> str:
        return f"{self.partition}:{self.incarnation}"

    @property
    def source(self) -> str:
        return f"gateway/{self.incarnation}"


class Publishing:
    """`clock_ms`: the wall clock."""

    def __init__(
        self, publisher: Publisher, address: Address, *, metrics: Metrics, clock_ms: Callable[[], int]
    ) -> None:
        self._publisher = publisher
        self._metrics = metrics
        self.address = address
        self.clock_ms = clock_ms

    def partition(self, topic: str, session: str) -> int:
        """Where records of this session go."""
        return partition_of(session.encode(), self._publisher.partition_count(topic))

    async def send(self, outgoing: Outgoing, *, what: str, turn: str | None) -> Position:
        """Publish and wait for the broker's ack. `what`: turn or control, for the metric.

        Raises PublishRefusal: `unavailable` (certainly not in) or `publish_unknown` (only the same id may be sent).
        """
        began = time.perf_counter()
        try:
            position = await self._publisher.send(outgoing)
        except PublishUnknown:
            self._metrics.published.labels(what, "unknown").inc()
            text = f"the broker has not answered: send the same {what} id again"
            raise PublishRefusal(Code.PUBLISH_UNKNOWN, text, turn) from None
        except (PublishError, BrokerUnavailable):
            self._metrics.published.labels(what, "failed").inc()
            raise PublishRefusal(Code.UNAVAILABLE, f"the broker did not take the {what}: try again", turn) from None
        self._metrics.published.labels(what, "ok").inc()
        self._metrics.publish_seconds.observe(time.perf_counter() - began)
        return position
