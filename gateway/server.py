"""uvicorn, set up for us: the HTTP server, and a WebSocket that can be hung up on a client that does not read.

The only file that imports uvicorn. Knows nothing of sessions or turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

# Name of the ASGI extension: `scope["extensions"][HANG_UP](code, reason)`.
HANG_UP = "turnfleet.hang_up"
_ABORT_AFTER_S = 2.0
_MAX_FRAGMENTS = 4_096
_TOO_BIG = 1009
_GOING_S = 5


class SocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket connection whose memory is bounded whatever the client does or leaves undone."""

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        scope: dict[str, Any] = vars(self).get("scope", {})
        scope.setdefault("extensions", {})[HANG_UP] = self.hang_up

    def hang_up(self, code: int, reason: str) -> None:
        """Send the close frame without waiting for the client to read, and cut the line if it does not answer."""
        if self.close_sent or self.disconnected:
            return
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.disconnected = True
        self.writable.set()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(_ABORT_AFTER_S, self.transport.abort)

    def handle_ping(self) -> None:
        """Pongs are not heaped up for a client that does not read."""
        output = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(output)

    def handle_cont(self, event: Any) -> None:
        if len(self.frames) >= _MAX_FRAGMENTS:
            self.hang_up(_TOO_BIG, "too many fragments")
        elif not self.close_sent:
            super().handle_cont(event)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.loop.call_later(_ABORT_AFTER_S, self.transport.abort)


class Server(uvicorn.Server):
    """A server that leaves the signals to the composition root; `up` is set once it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_server(app: Any, *, max_frame_bytes: int, heartbeat_s: float) -> Server:
    """A server for `app`, to be given its bound sockets: no compression (deflate bombs), no access log."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws=SocketProtocol,
        ws_max_size=max_frame_bytes,
        ws_ping_interval=heartbeat_s,
        ws_ping_timeout=heartbeat_s,
        ws_per_message_deflate=False,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_GOING_S,
    )
    return Server(config)
