"""The worker's health server: a port that is taken is one sentence, before anything else has begun."""

from __future__ import annotations

import socket

import pytest
from prometheus_client import CollectorRegistry

from workers.health import CannotListen, HealthServer, health_app


def test_a_port_that_is_taken_is_refused_in_one_sentence() -> None:
    app = health_app(CollectorRegistry(), dict)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = HealthServer(app, "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(CannotListen, match="set FLEET_WORKER_HOST, FLEET_WORKER_PORT"):
            server.listen()
