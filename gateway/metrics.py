"""Every metric of the gateway, in one place; docs/metrics.md has a row for each. Nothing is global."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Made once by the composition root, handed to whoever counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.sockets = Gauge("fleet_gateway_sockets", "WebSockets that are open", registry=registry)
        self.streams = Gauge("fleet_gateway_streams", "Server-sent event streams that are open", registry=registry)
        self.closed = Counter(
            "fleet_gateway_sockets_closed", "WebSockets closed by the gateway, by code", ["code"], registry=registry
        )
        self.published = Counter(
            "fleet_gateway_published",
            "Turns and control ops published, by outcome",
            ["what", "outcome"],
            registry=registry,
        )
        self.publish_seconds = Histogram(
            "fleet_gateway_publish_seconds", "From publish to the broker's ack", buckets=_SECONDS, registry=registry
        )
        self.received = Counter("fleet_gateway_replies", "Frames read from the reply topic for us", registry=registry)
        self.skipped = Counter(
            "fleet_gateway_replies_skipped", "Frames read and not delivered, by reason", ["reason"], registry=registry
        )
        self.joined = Counter("fleet_gateway_deltas_joined", "Deltas joined for slow readers", registry=registry)
        self.resumes = Counter("fleet_gateway_resumes", "Attaches by verdict", ["verdict"], registry=registry)
        self.errors = Counter("fleet_gateway_errors", "Errors answered, by code", ["code"], registry=registry)
        self.overloaded = Counter(
            "fleet_gateway_overloaded", "Turns refused because the queue was too old", registry=registry
        )
        self.queue_age = Gauge(
            "fleet_gateway_queue_age_seconds",
            "How long the oldest turn sent from here has waited to begin, its session being free",
            registry=registry,
        )
        self.turn_seconds = Histogram(
            "fleet_gateway_turn_seconds",
            "From a turn's arrival here to its terminal frame",
            buckets=(*_SECONDS, 30.0, 60.0, 120.0, 300.0),
            registry=registry,
        )
        self.ready = Gauge("fleet_gateway_ready", "1 when ready to take work", registry=registry)
        self.ring_turns = Gauge("fleet_gateway_ring_turns", "Turns kept for resuming", registry=registry)
        self.ring_bytes = Gauge("fleet_gateway_ring_bytes", "Bytes of frames kept for resuming", registry=registry)
