"""The HTTP routes of sessions: create, list, look, history, forget. Knows nothing of turns in flight."""

from __future__ import annotations

import base64
import binascii
from dataclasses import asdict
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import Field

from gateway.gateway import Gateway
from gateway.lookup import unreachable
from gateway.requests import body_of, legal_id, page_of, principal, takes
from journal.port import Listed, StoreUnavailable
from journal.state import State
from schemas.base import Frozen
from schemas.codes import Code
from schemas.control import Control, DeleteControl, OpenControl
from schemas.errors import Refusal
from schemas.history import HistoryItem
from schemas.ids import AgentName, SessionId, mint
from schemas.turn import IfBusy

_ACK_WAIT_S = 8.0


class SessionRequest(Frozen):
    """The body of `POST /v1/sessions`."""

    session: SessionId | None = None
    agent: AgentName | None = None
    if_exists: Literal["reuse", "reject"] = "reuse"
    if_busy: IfBusy | None = None
    op: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:\-]{1,128}$")] | None = None


def session_routes(gateway: Gateway) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["sessions"])

    @routes.post("/v1/sessions", status_code=201, openapi_extra=takes(SessionRequest))
    async def create_session(request: Request) -> Response:
        """Create a session ahead of its first turn: 201, 200 when it is reused, 409 `exists` when rejected."""
        who = principal(request)
        asked = await body_of(request, SessionRequest)
        session = asked.session or mint()
        op = asked.op or mint()
        control = OpenControl(op=op, tenant=who.tenant, user=who.user, agent=asked.agent, if_busy=asked.if_busy)
        answered = await _acknowledged(gateway, session, control)
        if answered == "refused":
            raise Refusal(Code.NOT_FOUND, "there is no such session or agent")
        if answered == "exists" and asked.if_exists == "reject":
            raise Refusal(Code.EXISTS, "the session exists already")
        state = await gateway.access.require_session(who, session, "read")
        return answer(view(session, state, gateway.idle_ms), 201 if answered == "applied" else 200)

    @routes.get("/v1/sessions")
    async def list_sessions(request: Request) -> Response:
        """The user's sessions, latest first."""
        who = principal(request)
        limit, after = page_of(request)
        try:
            listed, token = await gateway.store.directory.of_user(who.tenant, who.user, limit=limit, after=after)
        except StoreUnavailable as error:
            raise unreachable() from error
        except ValueError as error:
            raise Refusal(Code.BAD_REQUEST, "after: no token of ours") from error
        return answer({"items": [_listed(item) for item in listed], "next": token})

    @routes.get("/v1/sessions/{sid}")
    async def get_session(sid: str, request: Request) -> Response:
        """State, agent and its version, turns, expiry."""
        state = await gateway.access.require_session(principal(request), legal_id("session", sid), "read")
        return answer(view(sid, state, gateway.idle_ms))

    @routes.get("/v1/sessions/{sid}/history")
    async def get_history(sid: str, request: Request) -> Response:
        """What was said, oldest first, page by page."""
        who = principal(request)
        limit, after = page_of(request)
        state = await gateway.access.require_session(who, legal_id("session", sid), "read")
        first = _place(after, state) if after is not None else 0
        items = state.history[first : first + limit]
        more = first + len(items) < len(state.history)
        return answer(
            {"items": [_said(item) for item in items], "next": _token(state, first + len(items)) if more else None}
        )

    @routes.delete("/v1/sessions/{sid}", status_code=204)
    async def delete_session(sid: str, request: Request) -> Response:
        """Forget the session: contents, snapshots, blobs."""
        who = principal(request)
        await gateway.access.require_session(who, legal_id("session", sid), "read")
        answered = await _acknowledged(gateway, sid, DeleteControl(op=mint(), tenant=who.tenant, user=who.user))
        if answered != "applied":
            raise Refusal(Code.NOT_FOUND, "there is no such session")
        gateway.access.forget(who.tenant, sid)
        gateway.router.evict((who.tenant, sid), None)
        return Response(status_code=204)

    return routes


async def _acknowledged(gateway: Gateway, session: str, control: Control) -> str:
    """What became of the op. Raises Refusal `unavailable` when no worker answers."""
    ack = await gateway.ops.perform(session, control, wait_s=min(_ACK_WAIT_S, gateway.settings.gateway_wait_max_s))
    if ack is None:
        raise Refusal(Code.UNAVAILABLE, "no worker has answered yet: try again")
    return str(orjson.loads(ack.raw)["state"])


def view(session: str, state: State, idle_ms: int) -> dict[str, Any]:
    """A session as people see it. `state`: idle, running or suspended; `turn`: the one that is open, else the first
    that stands aside. Raises Refusal: it is not there, also where a turn for it was accepted that has not begun."""
    opened, now = state.opened, next(iter(state.begun), None)
    if opened is None:
        raise Refusal(Code.NOT_FOUND, "there is no such session")
    doing = "idle" if now is None else "running" if now.awaits is None else "suspended"
    return {
        "session": session,
        "state": doing,
        "turn": now.turn if now is not None else None,
        "waiting": len(state.parked),
        "agent": opened.agent,
        "agent_version": opened.agent_version,
        "if_busy": opened.if_busy,
        "turns": state.turns,
        "created_ms": opened.at_ms,
        "last_ms": state.last_ms,
        "expires_ms": state.last_ms + idle_ms,
    }


def answer(value: object, status: int = 200) -> Response:
    """JSON."""
    return Response(orjson.dumps(value), status_code=status, media_type="application/json")


def _listed(item: Listed) -> dict[str, Any]:
    hidden = {"s", "tenant", "user", "version", "closed_ms"}
    return {name: value for name, value in asdict(item).items() if name not in hidden}


def _said(item: HistoryItem) -> dict[str, Any]:
    said: dict[str, Any] = item.model_dump(mode="json", exclude_defaults=True)
    said["parts"] = [part.model_dump(mode="json", exclude_none=True) for part in item.parts]
    return said


def _token(state: State, index: int) -> str:
    return base64.urlsafe_b64encode(f"{state.base}.{index}".encode()).decode().rstrip("=")


def _place(token: str, state: State) -> int:
    """Where the next page begins; a token of an earlier life of the session is none of this one's."""
    try:
        base, _, index = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode("ascii").partition(".")
        if int(base) == state.base and int(index) >= 0:
            return int(index)
    except (binascii.Error, ValueError):
        pass
    raise Refusal(Code.BAD_REQUEST, "after: no token of this history")
