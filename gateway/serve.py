"""Runs a composed gateway until it is told to stop, then drains. Knows the order; nothing of settings or adapters."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from gateway.app import make_app
from gateway.gateway import Gateway
from gateway.server import make_server
from gateway.wire import MAX_FRAME_BYTES

_log = logging.getLogger("gateway")
_DRAIN_S = 12.0


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; OSError when the port is taken. `port` 0: any free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


async def serve(gateway: Gateway, bound: socket.socket, stop: asyncio.Event, started: Callable[[], None]) -> None:
    """Serve until `stop` is set (or the replies end for a reason that does not pass), then drain.

    Order: 1. not ready any more, nothing new is taken. 2. Publishes under way are answered, sockets closed with 1012,
    streams ended. 3. The server ends, then the reading of replies.
    """
    server = make_server(
        make_app(gateway), max_frame_bytes=MAX_FRAME_BYTES, heartbeat_s=gateway.settings.gateway_heartbeat_ms / 1_000
    )
    reading = asyncio.create_task(gateway.replies.run(), name="replies")
    serving = asyncio.create_task(server.serve([bound]), name="server")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await server.up.wait()
    started()
    await asyncio.wait({reading, serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    gateway.draining.set()
    _log.info("draining")
    await _drained(gateway)
    server.should_exit = True
    await serving
    stopping.cancel()
    await gateway.attach.stop()
    await gateway.readiness.stop()
    await gateway.replies.stop()
    await asyncio.wait({reading}, timeout=_DRAIN_S)
    reading.cancel()
    await asyncio.gather(reading, stopping, return_exceptions=True)
    _log.info("stopped")


async def _drained(gateway: Gateway) -> None:
    """Until the connections have closed themselves; what is left is closed by the server."""
    left = gateway.busy | gateway.open
    if left:
        await asyncio.wait(left, timeout=_DRAIN_S)
    for task in gateway.waiting:
        task.cancel()
