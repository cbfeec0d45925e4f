"""Frames as server-sent events. Knows the format; nothing of where the frames come from."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.event import Event
from gateway.gateway import Gateway
from gateway.listening import Listening
from gateway.resume import After, parse_position, resume_token
from schemas.codes import Code
from schemas.errors import Refusal

COMMENT_S = 15.0
MEDIA_TYPE = "text/event-stream"


class EventStream(StreamingResponse):
    """The frames that `listening` hears, as they come; it ends with the turn, or never for a session.

    `comment_s`: a comment is sent when nothing else was for so long. Nothing is followed any more once it has ended.
    """

    def __init__(
        self, gateway: Gateway, listening: Listening, *, of_session: bool, comment_s: float = COMMENT_S
    ) -> None:
        self._metrics = gateway.metrics
        self._listening = listening
        self._of_session = of_session
        self._comment_s = comment_s
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(self._texts(), media_type=MEDIA_TYPE, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._metrics.streams.inc()
        try:
            with self._listening:
                await super().__call__(scope, receive, send)
        finally:
            self._metrics.joined.inc(self._listening.outbox.joined)
            self._metrics.streams.dec()

    async def _texts(self) -> AsyncIterator[str]:
        while True:
            try:
                taken = await self._listening.next(self._comment_s)
            except TimeoutError:
                yield ": alive\n\n"
                continue
            if taken is None:
                return
            yield event_text(*taken, of_session=self._of_session)
            event = taken[1]
            if not self._of_session and event is not None and (event.terminal or event.type == "refused"):
                return


def event_text(raw: str, event: Event | None, *, of_session: bool) -> str:
    """One server-sent event; JSON has no line breaks. The id says where to go on: `<attempt>-<seq>`, in a session with
    the turn before it."""
    if event is None or event.type in {"refused", "ack"}:
        return f"data: {raw}\n\n"
    token = resume_token(event)
    return f"id: {event.turn}~{token}\ndata: {raw}\n\n" if of_session else f"id: {token}\ndata: {raw}\n\n"


def after_of_turn(last_event_id: str | None) -> After | None:
    """How far the client had got in a turn. Raises Refusal."""
    if not last_event_id:
        return None
    position = parse_position(last_event_id)
    if position is None:
        raise Refusal(Code.BAD_REQUEST, "Last-Event-ID: <attempt>-<seq>")
    return After(*position)


def after_of_session(last_event_id: str | None) -> After | None:
    """How far the client had got in a session. Raises Refusal."""
    if not last_event_id:
        return None
    turn, _, token = last_event_id.rpartition("~")
    position = parse_position(token)
    if position is None or not turn:
        raise Refusal(Code.BAD_REQUEST, "Last-Event-ID: <turn>~<attempt>-<seq>")
    return After(*position, turn=turn)
