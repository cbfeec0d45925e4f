"""Alive, ready, metrics. Knows nothing of sessions."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway.gateway import Gateway
from gateway.problems import problem
from gateway.sessions_http import answer
from schemas.codes import Code


def health_routes(gateway: Gateway) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz")
    async def healthz() -> Response:
        """The process lives and its loop turns."""
        return answer({"status": "alive"})

    @routes.get("/readyz")
    async def readyz() -> Response:
        """200 when work can be taken, else 503 with what is missing."""
        if gateway.draining.is_set():
            gateway.metrics.ready.set(0)
            return problem(Code.UNAVAILABLE, "draining")
        readings = await gateway.readiness.read()
        gateway.metrics.ready.set(readings.ready)
        if readings.ready:
            return answer({"status": "ready"})
        return problem(Code.UNAVAILABLE, "; ".join(f"{name}: {fault}" for name, fault in readings.faults.items()))

    @routes.get("/metrics")
    async def metrics(_request: Request) -> Response:
        """Prometheus text."""
        gateway.metrics.queue_age.set(gateway.turns_waiting.oldest_s())
        gateway.metrics.ring_turns.set(len(gateway.router.ring))
        gateway.metrics.ring_bytes.set(gateway.router.ring.bytes)
        return Response(generate_latest(gateway.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return routes
