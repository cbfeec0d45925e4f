"""`/healthz`, `/readyz` and `/metrics` of a worker. Knows uvicorn and starlette; decides nothing about turns."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

Reasons = Callable[[], Mapping[str, str]]


def health_app(registry: CollectorRegistry, unready: Reasons) -> Starlette:
    """`unready`: why no work is taken now, by part; empty: ready."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        reasons = dict(unready())
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])


class _Quiet(uvicorn.Server):
    """The process's signals belong to the composition root."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class CannotListen(Exception):
    """The address is taken or not ours; the text says what to do."""


class HealthServer:
    """Serves on a port of its own; `port` 0: any free one. `listen` comes first."""

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        config = uvicorn.Config(app, host=host, port=port, log_config=None, access_log=False, lifespan="off")
        self._server = _Quiet(config)
        self._host, self._port = host, port
        self._socket: socket.socket | None = None

    def listen(self) -> None:
        """Take the port. Raises CannotListen: uvicorn itself would end the process on the spot."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            self._socket = socket.create_server((self._host, self._port), family=family)
        except OSError as error:
            what = f"cannot listen on {self._host}:{self._port} ({error})"
            raise CannotListen(f"{what}: set FLEET_WORKER_HOST, FLEET_WORKER_PORT") from None

    async def serve(self) -> None:
        """Serve until `stop`."""
        assert self._socket is not None
        await self._server.serve(sockets=[self._socket])

    async def stop(self) -> None:
        """End the server."""
        self._server.should_exit = True
