"""The scripted answer as ready bytes: each token one chat.completion.chunk, one SSE event, one HTTP chunk, so that a
stream's write is one slice. Knows no sockets and no time."""

from __future__ import annotations

import orjson

from loadtest.script import answer_text, token

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
MODEL = "scripted"
REASONS = {
    400: "Bad Request",
    404: "Not Found",
    411: "Length Required",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Tape:
    """Grows to the highest token that was asked for and is shared by all streams. Tests speak other formats: they
    override `token`, `opening` and `closing`."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = [0]

    def slice(self, first: int, end: int) -> bytes:
        """The events of the tokens first..end-1."""
        while len(self._ends) <= end:
            self._bytes += self.token(len(self._ends) - 1)
            self._ends.append(len(self._bytes))
        return bytes(self._bytes[self._ends[first] : self._ends[end]])

    def token(self, number: int) -> bytes:
        """The event of one token."""
        return event(_chunk([{"index": 0, "delta": {"content": token(number)}, "finish_reason": None}]))

    def opening(self) -> bytes:
        """What comes before the first token."""
        return opening()

    def closing(self, finish: str, usage: dict[str, int] | None) -> bytes:
        """What comes after the last one."""
        return closing(finish, usage)


def event(value: dict[str, object]) -> bytes:
    """One SSE event in an HTTP chunk of its own."""
    return _framed(b"data: " + orjson.dumps(value) + b"\n\n")


def opening() -> bytes:
    """The event with the role, which comes before the first token."""
    delta = {"role": "assistant", "content": ""}
    return event(_chunk([{"index": 0, "delta": delta, "finish_reason": None}]))


def closing(finish: str, usage: dict[str, int] | None) -> bytes:
    """Finish reason, usage if it was asked for, `[DONE]` and the end of the body."""
    last = event(_chunk([{"index": 0, "delta": {}, "finish_reason": finish}]))
    counted = event(_chunk([]) | {"usage": usage}) if usage is not None else b""
    return last + counted + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def whole(tokens: int, start: int, *, finish: str, usage: dict[str, int]) -> dict[str, object]:
    """The body of an answer that is not streamed."""
    message = {"role": "assistant", "content": answer_text(tokens, start)}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return _chunk([choice]) | {"object": "chat.completion", "usage": usage}


def response(status: int, body: dict[str, object], *, extra: str = "") -> bytes:
    """A plain HTTP response with a JSON body; `extra` are header lines, each with its line end."""
    data = orjson.dumps(body)
    lines = f"HTTP/1.1 {status} {REASONS.get(status, 'OK')}\r\ncontent-type: application/json\r\n"
    return f"{lines}{extra}content-length: {len(data)}\r\n\r\n".encode() + data


def error(status: int, message: str, *, retry_after_s: float | None = None) -> bytes:
    """An error as OpenAI-compatible servers answer it."""
    extra = f"retry-after: {retry_after_s:g}\r\n" if retry_after_s is not None else ""
    return response(status, {"error": {"message": message, "type": "scripted", "code": str(status)}}, extra=extra)


def _chunk(choices: list[dict[str, object]]) -> dict[str, object]:
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": MODEL,
        "choices": choices,
    }


def _framed(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
