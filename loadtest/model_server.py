"""The scripted OpenAI-compatible model server: cheap enough to stream 50,000 tokens/s beside what it tests. Knows
nothing of Turnfleet but the headers `x-fleet-session` and `x-fleet-turn`.

Routes: `POST /v1/chat/completions`, `GET /v1/models`, `GET /stats`, `GET /turns`, `POST /reset`, `POST /script`,
`GET /healthz`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from loadtest import tape
from loadtest.model_stats import Active, Stats
from loadtest.script import Answer, Call, Rules, Script
from loadtest.wheel import Clock, Wheel

BODY_LIMIT = 64 * 1024 * 1024


@dataclass(slots=True)
class Model:
    """What all connections of one server share."""

    loop: Clock
    script: Script
    wheel: Wheel
    stats: Stats = field(default_factory=Stats)
    tape: tape.Tape = field(default_factory=tape.Tape)

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Listen; port 0 is any free one."""
        return await asyncio.get_running_loop().create_server(lambda: Connection(self), host, port, backlog=4096)


class Stream:
    """One streamed answer: writes each token when its time has come, several in one write only when late."""

    def __init__(self, connection: Connection, answer: Answer, *, call: Active, usage: dict[str, int] | None) -> None:
        self.call = call
        self.answer = answer
        self.sent = 0
        self._connection = connection
        self._usage = usage
        self._opened = False
        self._first_s = call.started_s + answer.first_ms / 1000
        self._end = answer.tokens if answer.cut_after is None else min(answer.cut_after, answer.tokens)
        self._base = answer.start

    def advance(self, now_s: float) -> float | None:
        """Write what is due at `now_s`."""
        if self._connection.streaming is not self:
            return None
        if self._connection.paused:
            return now_s + 0.05
        due = self._end
        if self.answer.rate:
            due = min(due, 1 + int((now_s - self._first_s) * self.answer.rate))
        parts = b"" if self._opened else tape.HEAD + self._connection.model.tape.opening()
        self._opened = True
        parts += self._connection.model.tape.slice(self._base + self.sent, self._base + due)
        self._connection.model.stats.tokens += due - self.sent
        self.sent = due
        if due < self._end:
            self._connection.write(parts)
            return self._first_s + due / self.answer.rate
        self._finish(parts)
        return None

    def _finish(self, parts: bytes) -> None:
        if self.answer.cut_after is None:
            self._connection.write(parts + self._connection.model.tape.closing(self.answer.finish, self._usage))
        else:
            self._connection.write(parts)
        self._connection.finished(self)


class Whole:
    """One answer that is not streamed: waits as long as its tokens would take."""

    def __init__(self, connection: Connection, answer: Answer, *, call: Active, usage: dict[str, int]) -> None:
        self.call = call
        self.answer = answer
        self.sent = 0
        self._connection = connection
        self._usage = usage

    @property
    def due_s(self) -> float:
        """When the answer is sent, on the loop's clock."""
        wanted_s = self.answer.tokens / self.answer.rate if self.answer.rate else 0.0
        return self.call.started_s + self.answer.first_ms / 1000 + wanted_s

    def advance(self, now_s: float) -> float | None:
        """Write the answer."""
        if self._connection.streaming is not self:
            return None
        self.sent = self.answer.tokens
        self._connection.model.stats.tokens += self.sent
        if self.answer.cut_after is None:
            body = tape.whole(self.sent, self.answer.start, finish=self.answer.finish, usage=self._usage)
            self._connection.write(tape.response(200, body))
        self._connection.finished(self)
        return None


class Connection(asyncio.Protocol):
    """One client connection: requests are read one after the other, the next one when the answer is out."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.paused = False
        self.streaming: Stream | Whole | None = None
        self._transport: asyncio.Transport | None = None
        self._read = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        answer, self.streaming = self.streaming, None
        if answer is None:
            return
        stats = self.model.stats
        stats.ended(answer.call, self.model.loop.time())
        wanted, now_ms = answer.answer.tokens, int(time.time() * 1000)
        stats.closed_early(answer.call, tokens_sent=answer.sent, tokens_wanted=wanted, at_ms=now_ms)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    def data_received(self, data: bytes) -> None:
        self._read += data
        self._take()

    def write(self, data: bytes) -> None:
        """Send, if the client is still there."""
        if self._transport is not None and data:
            self._transport.write(data)

    def finished(self, answer: Stream | Whole) -> None:
        """The answer is out or is cut here."""
        self.streaming = None
        self.model.stats.ended(answer.call, self.model.loop.time())
        if answer.answer.cut_after is None:
            self.model.stats.completed += 1
            self._take()
            return
        self.model.stats.cut += 1
        if self._transport is not None:
            self._transport.close()

    def _take(self) -> None:
        while self.streaming is None and (end := self._read.find(b"\r\n\r\n")) >= 0:
            request, headers = _parse_head(bytes(self._read[:end]))
            length = int(headers.get("content-length") or 0)
            if "transfer-encoding" in headers or length > BODY_LIMIT:
                self.write(tape.error(411, "send a content-length below 64 MiB"))
                if self._transport is not None:
                    self._transport.close()
                return
            if len(self._read) < end + 4 + length:
                return
            body = bytes(self._read[end + 4 : end + 4 + length])
            del self._read[: end + 4 + length]
            self._route(request, headers, body)

    def _route(self, request: str, headers: dict[str, str], body: bytes) -> None:
        match request:
            case "POST /v1/chat/completions" | "POST /chat/completions":
                self._complete(headers, body)
            case "GET /v1/models" | "GET /models":
                entry = {"id": tape.MODEL, "object": "model", "created": 0, "owned_by": "turnfleet"}
                self.write(tape.response(200, {"object": "list", "data": [entry]}))
            case "GET /stats":
                self.write(tape.response(200, self.model.stats.as_dict()))
            case "GET /turns":
                self.write(tape.response(200, dict(self.model.stats.asked)))
            case "GET /healthz":
                self.write(tape.response(200, {"ok": True}))
            case "POST /reset":
                self.model.stats.reset()
                self.write(tape.response(200, {"ok": True}))
            case "POST /script":
                self._replace_script(body)
            case _:
                self.write(tape.error(404, f"no route {request}"))

    def _replace_script(self, body: bytes) -> None:
        try:
            self.model.script = Script(Rules.model_validate_json(body))
        except ValueError as fault:
            self.write(tape.error(400, str(fault)))
            return
        self.write(tape.response(200, {"ok": True}))

    def _complete(self, headers: dict[str, str], body: bytes) -> None:
        stats = self.model.stats
        try:
            wanted = orjson.loads(body)
            session = headers.get("x-fleet-session") or str(wanted.get("user") or "")
            text = last_user_text(wanted["messages"])
            call = Call(session=session, model=str(wanted["model"]), text=text)
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            stats.statuses[400] += 1
            self.write(tape.error(400, f"not a chat completion request: {fault!r}"))
            return
        answer = self.model.script.answer(call)
        stats.statuses[answer.status] += 1
        if answer.status != 200:
            self.write(tape.error(answer.status, "by script", retry_after_s=answer.retry_after_s))
            return
        self._begin(wanted, answer, stats.began(session, headers.get("x-fleet-turn", ""), self.model.loop.time()))

    def _begin(self, wanted: dict[str, Any], answer: Answer, call: Active) -> None:
        prompt = sum(len(str(message.get("content") or "")) for message in wanted["messages"]) // 4
        usage = {"prompt_tokens": prompt, "completion_tokens": answer.tokens, "total_tokens": prompt + answer.tokens}
        if not wanted.get("stream"):
            whole = self.streaming = Whole(self, answer, call=call, usage=usage)
            self.model.wheel.add(whole, whole.due_s)
            return
        asked = (wanted.get("stream_options") or {}).get("include_usage")
        self.streaming = Stream(self, answer, call=call, usage=usage if asked else None)
        self.model.wheel.add(self.streaming, call.started_s + answer.first_ms / 1000)


def last_user_text(messages: list[dict[str, Any]]) -> str:
    """The text of the last message of the user; text parts are joined."""
    for message in reversed(messages):
        if message["role"] == "user":
            content = message.get("content") or ""
            if isinstance(content, str):
                return content
            return "".join(part.get("text", "") for part in content if part.get("type") == "text")
    return ""


def _parse_head(head: bytes) -> tuple[str, dict[str, str]]:
    lines = head.decode("latin-1").split("\r\n")
    method, _, rest = lines[0].partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    pairs = (line.partition(":") for line in lines[1:])
    return f"{method} {path}", {name.strip().lower(): value.strip() for name, _, value in pairs}
