"""The scripted model server in the formats of Anthropic and of Gemini: the same scripts, the same stats."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import orjson

from loadtest import tape
from loadtest.model_server import Connection, Model
from loadtest.script import token

_END = b"0\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _named(value: dict[str, Any]) -> bytes:
    return _chunk(b"event: " + value["type"].encode() + b"\ndata: " + orjson.dumps(value) + b"\n\n")


class AnthropicTape(tape.Tape):
    """Message stream events."""

    def token(self, number: int) -> bytes:
        delta = {"type": "text_delta", "text": token(number)}
        return _named({"type": "content_block_delta", "index": 0, "delta": delta})

    def opening(self) -> bytes:
        message: dict[str, Any] = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "scripted",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 7, "output_tokens": 0, "cache_read_input_tokens": 5},
        }
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        return _named({"type": "message_start", "message": message}) + _named(block)

    def closing(self, finish: str, usage: dict[str, int] | None) -> bytes:
        reason = "max_tokens" if finish == "length" else "end_turn"
        made = {"output_tokens": (usage or {}).get("completion_tokens", 0)}
        delta = {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": made}
        return (
            _named({"type": "content_block_stop", "index": 0}) + _named(delta) + _named({"type": "message_stop"}) + _END
        )


class GeminiTape(tape.Tape):
    """Chunks of `streamGenerateContent?alt=sse`."""

    def token(self, number: int) -> bytes:
        return self._event({"content": {"role": "model", "parts": [{"text": token(number)}]}, "index": 0})

    def opening(self) -> bytes:
        return b""

    def closing(self, finish: str, usage: dict[str, int] | None) -> bytes:
        reason = "MAX_TOKENS" if finish == "length" else "STOP"
        made = (usage or {}).get("completion_tokens", 0)
        counted = {"promptTokenCount": 7, "candidatesTokenCount": made, "totalTokenCount": 7 + made}
        last = {"content": {"role": "model", "parts": [{"text": ""}]}, "index": 0, "finishReason": reason}
        return self._event(last, usageMetadata=counted) + _END

    def _event(self, candidate: dict[str, Any], **more: Any) -> bytes:
        return _chunk(b"data: " + orjson.dumps({"candidates": [candidate], **more}) + b"\r\n\r\n")


class DialectServer(Model):
    """Translates what comes; `bodies`: the requests as they came, with their headers."""

    async def serve(self, host: str, port: int) -> asyncio.Server:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        return await asyncio.get_running_loop().create_server(lambda: _Translating(self), host, port, backlog=4096)


class _Translating(Connection):
    def _route(self, request: str, headers: dict[str, str], body: bytes) -> None:
        assert isinstance(self.model, DialectServer)
        wanted = orjson.loads(body)
        self.model.bodies.append(wanted)
        self.model.headers.append(headers)
        if gemini := re.fullmatch(r"POST /v1beta/models/(.+):streamGenerateContent", request):
            wanted = {"model": gemini[1], "messages": [_said(content) for content in wanted["contents"]]}
        elif request != "POST /v1/messages":
            self.write(tape.error(404, f"no route {request}"))
            return
        wanted |= {"stream": True, "stream_options": {"include_usage": True}}
        super()._route("POST /v1/chat/completions", headers, orjson.dumps(wanted))


def _said(content: dict[str, Any]) -> dict[str, str]:
    return {"role": content["role"], "content": "".join(part.get("text", "") for part in content["parts"])}
