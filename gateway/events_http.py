"""The event streams of a turn and of a session over HTTP, resumed at `Last-Event-ID`. Knows nothing of frames."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from gateway.gateway import Gateway
from gateway.listening import Listening
from gateway.requests import legal_id, principal
from gateway.resume import Resumed, reset_of
from gateway.sse import EventStream, after_of_session, after_of_turn


def event_routes(gateway: Gateway) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["events"])

    @routes.get("/v1/sessions/{sid}/turns/{tid}/events")
    async def turn_events(sid: str, tid: str, request: Request) -> Response:
        """The turn's frames, `id: <attempt>-<seq>`; 204 when `Last-Event-ID` is its terminal frame."""
        who = principal(request)
        after = after_of_turn(request.headers.get("last-event-id"))
        listening = Listening(gateway, who)
        turn = legal_id("turn", tid)
        item = await gateway.attach.turn(who, listening.reader, legal_id("session", sid), turn, after)
        if item.verdict == "full" and not item.replay and item.over:
            gateway.attach.undo(listening.reader, sid, turn)
            return Response(status_code=204)
        _catch_up(listening, who.tenant, sid, item)
        gateway.attach.release(listening.reader, sid, turn, [item])
        return EventStream(gateway, listening, of_session=False)

    @routes.get("/v1/sessions/{sid}/events")
    async def session_events(sid: str, request: Request) -> Response:
        """The frames of the session's current and later turns, `id: <turn>~<attempt>-<seq>`."""
        who = principal(request)
        after = after_of_session(request.headers.get("last-event-id"))
        listening = Listening(gateway, who)
        _, items = await gateway.attach.session(who, listening.reader, legal_id("session", sid), after)
        for item in items:
            _catch_up(listening, who.tenant, sid, item)
        gateway.attach.release(listening.reader, sid, None, items)
        return EventStream(gateway, listening, of_session=True)

    return routes


def _catch_up(listening: Listening, tenant: str, session: str, item: Resumed) -> None:
    """Where frames are gone and the end does not follow at once, a `reset` says the text so far."""
    if item.verdict != "full" and not item.over:
        reset = reset_of(tenant, session, item)
        listening.outbox.say(reset.raw, reset)
