"""One WebSocket: frames in, answers and events out. Knows the protocol's words; nothing of brokers or stores."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway import wire
from gateway.allowance import Allowance
from gateway.client_frames import (
    ApproveFrame,
    AttachFrame,
    CancelFrame,
    ClientFrame,
    DetachFrame,
    FeedbackFrame,
    Misread,
    NotJson,
    PingFrame,
    SteerFrame,
    TurnFrame,
    parse_client_frame,
)
from gateway.event import Event
from gateway.gateway import Gateway
from gateway.identity import Principal, identify, refuse_foreign_origin
from gateway.intake import Submission
from gateway.outbox import Outbox
from gateway.reader import Reader
from gateway.resume import After, recovered
from gateway.server import HANG_UP
from schemas.codes import Code
from schemas.control import ApproveControl, CancelControl, Control, SteerControl
from schemas.errors import Refusal
from schemas.ids import mint

_BREATH_FRAMES = 32
_FLUSH_S = 1.0
_BUSY_S = 8.0
_MAX_AWAITED = 1_000
_MAX_FOLLOWED = 10_000
_log = logging.getLogger("gateway.socket")


async def serve_socket(gateway: Gateway, websocket: WebSocket) -> None:
    """Run one WebSocket to its end."""
    try:
        refuse_foreign_origin(websocket.headers)
        who = identify(websocket.headers, websocket.query_params)
    except Refusal as refusal:
        await websocket.accept()
        await websocket.send_text(wire.error(refusal, ref=None))
        await websocket.close(wire.SIGN_IN, "sign in again")
        return
    offered = websocket.scope.get("subprotocols", [])
    await websocket.accept(wire.SUBPROTOCOL if wire.SUBPROTOCOL in offered else None)
    running = asyncio.create_task(Socket(gateway, websocket, who).run(), name="socket")
    gateway.open.add(running)
    running.add_done_callback(gateway.open.discard)
    await running


class Socket:
    """One connection of one user."""

    def __init__(self, gateway: Gateway, websocket: WebSocket, who: Principal) -> None:
        self._gateway = gateway
        self._websocket = websocket
        self._who = who
        self._outbox = Outbox(gateway.settings.gateway_socket_bytes, self._overflowed)
        self._reader = Reader(who.tenant, who.user, self._outbox.put)
        self._allowance, self._patience = self._bucket(), self._bucket()
        self._written = asyncio.Event()
        self._awaited = 0
        self._closed = False

    async def run(self) -> None:
        """Until either side ends it."""
        gateway = self._gateway
        gateway.metrics.sockets.inc()
        self._outbox.say(wire.hello(gateway.address.incarnation, self._who, gateway.settings, gateway.limits))
        tasks = [
            asyncio.create_task(self._read(), name="socket read"),
            asyncio.create_task(self._write(), name="socket write"),
            asyncio.create_task(self._drained(), name="socket drain"),
        ]
        try:
            done, _ = await asyncio.wait(tasks[:1] + tasks[2:], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (WebSocketDisconnect, OSError):
            pass
        finally:
            self._outbox.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            gateway.router.leave_all(self._reader)
            gateway.metrics.joined.inc(self._outbox.joined)
            gateway.metrics.sockets.dec()

    async def _drained(self) -> None:
        """At a drain: what is under way gets its answer, then the client is sent to another gateway."""
        await self._gateway.draining.wait()
        busy = [task for task in self._gateway.busy if not task.done()]
        if busy:
            await asyncio.wait(busy, timeout=_BUSY_S)
        self._outbox.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_S):
                await self._written.wait()
        self._close(wire.DRAIN, "drain")

    async def _write(self) -> None:
        """Send what waits, one frame at a time: what waits behind it can still be joined."""
        send = self._websocket.send_text
        while (taken := await self._outbox.take()) is not None:
            await send(taken[0])
            if taken[1] is not None and taken[1].terminal:
                self._get_to_know(taken[1].session)
        self._written.set()

    def _get_to_know(self, session: str) -> None:
        """A session's first turn asks in vain whose it is. Once it is over the journal knows: no later one waits."""
        if not self._gateway.access.knows(self._who, session):
            self._beside(self._gateway.access.learn(self._who, session), self._gateway.waiting)

    async def _read(self) -> None:
        received = 0
        while not self._closed:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            received += 1
            if received % _BREATH_FRAMES == 0:
                await asyncio.sleep(0)
            text = message.get("text")
            if text is None:
                self._close(wire.NOT_TEXT, "text frames only")
            elif self._allowance.take(time.monotonic()):
                await self._take(text)
            elif self._patience.take(time.monotonic()):
                self._fail(wire.overloaded(self._allowance.wait_ms), ref=None)
            else:
                self._close(wire.WAIT, "too many frames: wait")

    def _bucket(self) -> Allowance:
        """As many frames as the settings allow: first to be taken, then to be refused."""
        settings = self._gateway.settings
        return Allowance(
            per_s=settings.gateway_frames_per_s, burst=settings.gateway_frames_burst, now_s=time.monotonic()
        )

    async def _take(self, text: str) -> None:
        try:
            frame = parse_client_frame(text)
        except NotJson:
            self._close(wire.NOT_JSON, "not JSON")
            return
        except Misread as misread:
            self._fail(misread, ref=misread.ref)
            return
        session, turn = getattr(frame, "session", None), getattr(frame, "turn", None)
        try:
            await self._answer(frame)
        except Refusal as refusal:
            self._fail(refusal, ref=frame.ref, session=session, turn=turn)
        except Exception:  # noqa: BLE001 - an error of ours ends no connection
            _log.exception("a frame could not be handled")
            self._fail(wire.internal(), ref=frame.ref, session=session, turn=turn)

    async def _answer(self, frame: ClientFrame) -> None:
        if isinstance(frame, TurnFrame):
            await self._turn(frame)
        elif isinstance(frame, PingFrame):
            self._outbox.say(wire.pong(frame.ref))
        elif isinstance(frame, AttachFrame):
            await self._attach(frame)
        elif isinstance(frame, DetachFrame):
            for session, turn in [scope for scope in self._reader.follows if scope[0] == frame.session]:
                self._gateway.router.leave(self._reader, session, turn)
        elif isinstance(frame, FeedbackFrame):
            await self._gateway.access.require_session(self._who, frame.session, "act", turn=frame.turn)
            raise Refusal(Code.UNSUPPORTED, "feedback is not taken yet")
        else:
            await self._control(frame)

    async def _turn(self, frame: TurnFrame) -> None:
        """The checks run here, so that turns of one connection keep their order; the ack is awaited beside it."""
        self._may_await()
        submission = await self._gateway.intake.admit(self._who, frame.session, frame)
        self._gateway.intake.begin(submission, self._reader)
        self._beside(self._publish(submission, frame.ref), self._gateway.busy)

    async def _publish(self, submission: Submission, ref: str | None) -> None:
        def on_accepted(accepted: Event) -> None:
            self._outbox.say(accepted.with_ref(ref), accepted)

        try:
            await self._gateway.intake.publish(submission, self._reader, on_accepted)
        except Refusal as refusal:
            self._fail(refusal, ref=ref, session=submission.session, turn=submission.turn)

    async def _attach(self, frame: AttachFrame) -> None:
        self._may_await()
        after = After(frame.after.attempt, frame.after.seq, frame.after.turn) if frame.after is not None else None
        if frame.turn is not None:
            own = after if after is None or after.turn == frame.turn else None
            item = await self._gateway.attach.turn(self._who, self._reader, frame.session, frame.turn, own)
            verdict, items = item.verdict, [item]
        else:
            verdict, items = await self._gateway.attach.session(self._who, self._reader, frame.session, after)
        self._outbox.say(recovered(frame.session, verdict, items, frame.ref))
        self._gateway.attach.release(self._reader, frame.session, frame.turn, items)

    async def _control(self, frame: CancelFrame | SteerFrame | ApproveFrame) -> None:
        self._may_await()
        await self._gateway.access.require_session(self._who, frame.session, "act", turn=frame.turn)
        control = control_of(frame, self._who)
        self._beside(self._perform(frame.session, frame.turn, control, frame.ref), self._gateway.waiting)

    async def _perform(self, session: str, turn: str, control: Control, ref: str | None) -> None:
        wait_s = self._gateway.settings.gateway_wait_max_s

        def on_ack(ack: Event) -> None:
            self._outbox.say(ack.with_ref(ref))

        try:
            if await self._gateway.ops.perform(session, control, wait_s=wait_s, at_once=on_ack) is None:
                raise Refusal(Code.UNAVAILABLE, f"no worker has answered: send op {control.op} again")
        except Refusal as refusal:
            self._fail(refusal, ref=ref, session=session, turn=turn)

    def _may_await(self) -> None:
        if self._awaited >= _MAX_AWAITED or len(self._reader.follows) >= _MAX_FOLLOWED:
            raise wire.overloaded(1_000)
        if self._gateway.draining.is_set():
            raise Refusal(Code.UNAVAILABLE, "this gateway drains: connect again")

    def _beside(self, work: Coroutine[Any, Any, None], kept: set[asyncio.Task[None]]) -> None:
        """Run beside the reading; it outlives the connection, because a disconnect is not a cancel."""
        task = asyncio.create_task(work, name="socket answer")
        self._awaited += 1
        kept.add(task)
        task.add_done_callback(kept.discard)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._awaited -= 1
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("an answer failed", exc_info=error)

    def _fail(self, refusal: Refusal, *, ref: str | None, session: str | None = None, turn: str | None = None) -> None:
        self._gateway.metrics.errors.labels(refusal.code.value).inc()
        self._outbox.say(wire.error(refusal, ref=ref, session=session, turn=turn))

    def _overflowed(self) -> None:
        self._close(wire.TOO_SLOW, "too slow: attach again")

    def _close(self, code: int, reason: str) -> None:
        """Close whether or not the client reads."""
        if not self._closed:
            self._closed = True
            self._gateway.metrics.closed.labels(str(code)).inc()
            self._websocket.scope["extensions"][HANG_UP](code, reason)


def control_of(frame: CancelFrame | SteerFrame | ApproveFrame, who: Principal) -> Control:
    """The op that a frame asks for; its id is minted where the client chose none."""
    op = frame.op or mint()
    if isinstance(frame, CancelFrame):
        return CancelControl(op=op, tenant=who.tenant, user=who.user, turn=frame.turn)
    if isinstance(frame, SteerFrame):
        return SteerControl(op=op, tenant=who.tenant, user=who.user, turn=frame.turn, text=frame.text)
    return ApproveControl(
        op=op, tenant=who.tenant, user=who.user, turn=frame.turn, call=frame.call, decision=frame.decision,
        arguments=frame.arguments, answer=frame.answer, note=frame.note,
    )  # fmt: skip
