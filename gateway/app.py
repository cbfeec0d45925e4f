"""The routes and errors of one gateway as an ASGI application. Nothing is decided here."""

from __future__ import annotations

from fastapi import FastAPI, WebSocket

from gateway import problems
from gateway.events_http import event_routes
from gateway.gateway import Gateway
from gateway.health_http import health_routes
from gateway.identity import DEVELOPMENT
from gateway.page import page_routes
from gateway.profile_http import profile_routes
from gateway.sessions_http import session_routes
from gateway.socket import serve_socket
from gateway.turns_http import turn_routes


def make_app(gateway: Gateway) -> FastAPI:
    """The application; it starts and stops nothing."""
    app = FastAPI(title="Turnfleet", version="1", description=DEVELOPMENT, docs_url=None, redoc_url=None)
    problems.install(app, gateway.metrics)
    for routes in (
        page_routes(), session_routes(gateway), turn_routes(gateway), event_routes(gateway), profile_routes(gateway),
        health_routes(gateway),
    ):  # fmt: skip
        app.include_router(routes)

    @app.websocket("/v1/ws")
    async def socket(websocket: WebSocket) -> None:
        await serve_socket(gateway, websocket)

    return app
