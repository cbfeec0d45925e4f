"""The HTTP routes of turns: begin one, look at one, cancel, steer, approve. Knows nothing of streams' insides."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import Field, JsonValue

from gateway.event import Event, TurnKey
from gateway.gateway import Gateway
from gateway.identity import Principal
from gateway.intake import Submission
from gateway.listening import Listening
from gateway.lookup import TurnFacts, facts_of
from gateway.problems import refused
from gateway.requests import body_of, legal_id, principal, takes, wait_of
from gateway.sessions_http import answer
from gateway.sse import MEDIA_TYPE, EventStream
from gateway.turn_request import TurnRequest
from journal.turns import TurnView
from schemas.base import Frozen
from schemas.codes import Code
from schemas.control import ApproveControl, CancelControl, Control, SteerControl
from schemas.errors import Refusal
from schemas.ids import OpId, mint
from schemas.receipt import RECEIPT


class CancelRequest(Frozen):
    """The body of `…/cancel`; it may be empty."""

    op: OpId | None = None


class SteerRequest(Frozen):
    """The body of `…/steer`."""

    text: Annotated[str, Field(min_length=1)]
    op: OpId | None = None


class ApproveRequest(Frozen):
    """The body of `…/approve`."""

    call: Annotated[str, Field(min_length=1, max_length=256)]
    decision: Literal["allow", "deny"]
    arguments: dict[str, JsonValue] | None = None
    answer: JsonValue = None
    note: Annotated[str, Field(max_length=4_096)] | None = None
    op: OpId | None = None


def turn_routes(gateway: Gateway) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["turns"])

    @routes.post("/v1/sessions/{sid}/turns", status_code=202, openapi_extra=takes(TurnRequest))
    async def begin_turn(sid: str, request: Request) -> Response:
        """Begin a turn: 202; with `?wait_s=` 200 and the terminal frame; as an event stream where asked."""
        who = principal(request)
        wait_s = wait_of(request, gateway.settings.gateway_wait_max_s)
        asked = await body_of(request, TurnRequest)
        if gateway.draining.is_set():
            raise Refusal(Code.UNAVAILABLE, "this gateway drains: try again")
        submission = await gateway.intake.admit(who, legal_id("session", sid), asked)
        listening = Listening(gateway, who)
        gateway.intake.begin(submission, listening.reader)
        await _publish(gateway, submission, listening)
        if MEDIA_TYPE in request.headers.get("accept", ""):
            return EventStream(gateway, listening, of_session=False)
        with listening:
            outcome = await listening.outcome(wait_s) if wait_s else None
            gateway.intake.withdraw(submission, listening.reader)
        return _outcome(gateway, submission.key, outcome)

    @routes.get("/v1/sessions/{sid}/turns/{tid}")
    async def get_turn(sid: str, tid: str, request: Request) -> Response:
        """Input, state, result, receipt."""
        who = principal(request)
        turn = legal_id("turn", tid)
        state = await gateway.access.require_session(who, legal_id("session", sid), "read", turn=turn)
        view = await gateway.lookup.view(who.tenant, sid, state, turn) if state.opened is not None else None
        return answer(_shown(sid, facts_of(turn, view), view))

    @routes.post("/v1/sessions/{sid}/turns/{tid}/cancel", status_code=202, openapi_extra=takes(CancelRequest))
    async def cancel_turn(sid: str, tid: str, request: Request) -> Response:
        """202 with `op`; with `?wait_s=` 200 with the `ack`."""
        who = principal(request)
        asked = await body_of(request, CancelRequest)
        turn = legal_id("turn", tid)
        control = CancelControl(op=asked.op or mint(), tenant=who.tenant, user=who.user, turn=turn)
        return await _perform(gateway, request, who, sid, control)

    @routes.post("/v1/sessions/{sid}/turns/{tid}/steer", status_code=202, openapi_extra=takes(SteerRequest))
    async def steer_turn(sid: str, tid: str, request: Request) -> Response:
        """202 with `op`; with `?wait_s=` 200 with the `ack`."""
        who = principal(request)
        asked = await body_of(request, SteerRequest)
        turn = legal_id("turn", tid)
        control = SteerControl(op=asked.op or mint(), tenant=who.tenant, user=who.user, turn=turn, text=asked.text)
        return await _perform(gateway, request, who, sid, control)

    @routes.post("/v1/sessions/{sid}/turns/{tid}/approve", status_code=202, openapi_extra=takes(ApproveRequest))
    async def approve_call(sid: str, tid: str, request: Request) -> Response:
        """202 with `op`; with `?wait_s=` 200 with the `ack`."""
        who = principal(request)
        asked = await body_of(request, ApproveRequest)
        control = ApproveControl(
            op=asked.op or mint(), tenant=who.tenant, user=who.user, turn=legal_id("turn", tid), call=asked.call,
            decision=asked.decision, arguments=asked.arguments, answer=asked.answer, note=asked.note,
        )  # fmt: skip
        return await _perform(gateway, request, who, sid, control)

    return routes


async def _publish(gateway: Gateway, submission: Submission, listening: Listening) -> None:
    """Publish to the end, also when the client goes away meanwhile. Raises PublishRefusal."""

    def on_accepted(accepted: Event) -> None:
        listening.outbox.say(accepted.raw, accepted)

    publishing = asyncio.create_task(gateway.intake.publish(submission, listening.reader, on_accepted), name="publish")
    gateway.busy.add(publishing)
    publishing.add_done_callback(gateway.busy.discard)
    await asyncio.shield(publishing)


async def _perform(gateway: Gateway, request: Request, who: Principal, sid: str, control: Control) -> Response:
    wait_s = wait_of(request, gateway.settings.gateway_wait_max_s)
    turn = getattr(control, "turn", None)
    await gateway.access.require_session(who, legal_id("session", sid), "act", turn=turn)
    ack = await gateway.ops.perform(sid, control, wait_s=wait_s or 0.0)
    if ack is not None and wait_s:
        return Response(ack.raw, media_type="application/json")
    return answer({"session": sid, "turn": turn, "op": control.op}, 202)


def _outcome(gateway: Gateway, key: TurnKey, outcome: Event | None) -> Response:
    if outcome is None:
        log = gateway.router.ring.get(key)
        state = "running" if log is not None and log.heard and log.terminal is None else "unseen"
        return answer({"session": key[1], "turn": key[2], "state": state}, 202)
    if outcome.type == "refused":
        return refused(outcome)
    return Response(outcome.raw, media_type="application/json")


def _shown(session: str, facts: TurnFacts, view: TurnView | None) -> dict[str, Any]:
    """A turn as people see it; `result` is its terminal frame."""
    shown: dict[str, Any] = {"session": session, "turn": facts.turn, "state": facts.state, "attempt": facts.attempt}
    shown["input"] = shown["result"] = shown["receipt"] = None
    if view is not None:
        shown["input"] = view.input.model_dump(mode="json", exclude_defaults=True) if view.input is not None else None
        receipt = view.receipt
        shown["receipt"] = RECEIPT.dump_python(receipt, mode="json", exclude_none=True) if receipt is not None else None
        shown["began_ms"], shown["deadline_ms"], shown["into"] = view.began_ms, view.deadline_ms, view.into
    if facts.terminal is not None:
        shown["result"] = orjson.loads(facts.terminal.raw)
    return shown
