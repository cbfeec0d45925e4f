"""Bedrock's models before a server that speaks its event stream."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from schemas.codes import Code
from schemas.errors import TerminalError
from schemas.history import HistoryItem, ToolCall, said
from schemas.parts import FilePart, TextPart
from schemas.settings import ModelSettings
from workers.models.bedrock import bedrock_model
from workers.models.library import LibraryModel
from workers.models.port import (
    ModelChunk,
    ModelDone,
    ModelMisconfigured,
    ModelRateLimited,
    ModelRefused,
    ModelRequest,
    ModelUnavailable,
    ToolSpec,
)


def frame(kind: str, value: dict[str, Any]) -> bytes:
    """One message of Amazon's event stream encoding."""
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(text)) + text.encode()
        for name, text in ((":message-type", "event"), (":event-type", kind), (":content-type", "application/json"))
    )
    payload = json.dumps(value).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    head = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return head + struct.pack(">I", zlib.crc32(head))


def spoken(*texts: str) -> bytes:
    usage = {"inputTokens": 7, "outputTokens": 2, "totalTokens": 9, "cacheReadInputTokens": 3}
    return b"".join(
        (
            frame("messageStart", {"role": "assistant"}),
            *(frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}}) for text in texts),
            frame("contentBlockStop", {"contentBlockIndex": 0}),
            frame("messageStop", {"stopReason": "end_turn"}),
            frame("metadata", {"usage": usage, "metrics": {"latencyMs": 1}}),
        )
    )


class Bedrock:
    """Gives one answer to every request; `bodies`: what was asked."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] = (200, spoken("Hä", "llo"))
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length")
        )
        self.bodies.append(json.loads(await reader.readexactly(length)))
        self.heads.append(head.lower())
        status, body = self.answer
        kind = "application/vnd.amazon.eventstream" if status == 200 else "application/json"
        writer.write(f"HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-type: {kind}\r\n".encode())
        writer.write(f"content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()


@pytest.fixture
async def there(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[LibraryModel, Bedrock]]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    bedrock = Bedrock()
    server = await asyncio.start_server(bedrock.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    model = bedrock_model(ModelSettings(bedrock_region="us-east-1", bedrock_url=url))
    yield model, bedrock
    await model.close()
    server.close()
    await server.wait_closed()


def item(role: Any, *parts: Any, calls: tuple[ToolCall, ...] = (), call: str | None = None) -> HistoryItem:
    whole = tuple(TextPart(text=part) if isinstance(part, str) else part for part in parts)
    return HistoryItem(id="t~0", turn="t", role=role, parts=whole, at_ms=0, calls=calls, call=call)


def asked(*messages: HistoryItem, **more: Any) -> ModelRequest:
    given = messages or (said(item="t~0", turn="t", role="user", text="hi", at_ms=0),)
    return ModelRequest("s", "t", given, model="bedrock:us.anthropic.claude-sonnet-4-5-20250929-v1:0", **more)


async def whole(model: LibraryModel, request: ModelRequest) -> tuple[str, ModelDone]:
    text = ""
    async with model.stream(request) as pieces:
        async for piece in pieces:
            if isinstance(piece, ModelChunk):
                text += piece.text
            else:
                return text, piece
    raise AssertionError("no end")


async def test_an_answer_is_whole_with_its_usage(there: tuple[LibraryModel, Bedrock]) -> None:
    model, bedrock = there
    text, done = await whole(model, asked(system="be kind", max_tokens=50))
    assert (text, done.finish) == ("Hällo", "stop")
    assert done.usage is not None
    assert (done.usage.provider, done.usage.output_tokens, done.usage.cached_input_tokens) == ("bedrock", 2, 3)
    (body,) = bedrock.bodies
    assert body["system"][0] == {"text": "be kind"}
    assert body["inferenceConfig"]["maxTokens"] == 50
    assert "authorization: aws4-hmac-sha256 credential=id/" in bedrock.heads[0]
    assert "x-fleet-session: s" in bedrock.heads[0]


async def test_calls_and_results_are_told_in_pairs(there: tuple[LibraryModel, Bedrock]) -> None:
    model, bedrock = there
    call = ToolCall(call="c1", name="find", arguments={"q": 1})
    history = [
        item("user", "find it"),
        item("assistant", calls=(call, ToolCall(call="c2", name="gone"))),
        item("tool", "found", call="c1"),
    ]
    await whole(model, asked(*history, tools=(ToolSpec("find", "finds", {"type": "object", "properties": {}}),)))
    (body,) = bedrock.bodies
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == [{"toolUse": {"toolUseId": "c1", "name": "find", "input": {"q": 1}}}]
    assert body["messages"][2]["content"][0]["toolResult"]["toolUseId"] == "c1"
    assert [tool["toolSpec"]["name"] for tool in body["toolConfig"]["tools"] if "toolSpec" in tool] == ["find"]


async def test_a_picture_goes_by_its_data_alone(there: tuple[LibraryModel, Bedrock]) -> None:
    model, bedrock = there
    await whole(model, asked(item("user", "look", FilePart(media_type="image/png", data="AAAA"))))
    blocks = bedrock.bodies[0]["messages"][0]["content"]
    assert any(block.get("image", {}).get("format") == "png" for block in blocks)
    with pytest.raises(TerminalError) as caught:
        await whole(model, asked(item("user", FilePart(media_type="image/png", url="https://pictures.invalid/1"))))
    assert caught.value.code is Code.BAD_REQUEST
    assert len(bedrock.bodies) == 1


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (429, "ThrottlingException", ModelRateLimited),
        (503, "ServiceUnavailableException", ModelUnavailable),
        (500, "InternalServerException", ModelUnavailable),
        (400, "ValidationException", ModelRefused),
        (403, "AccessDeniedException", ModelRefused),
    ],
)
async def test_a_failure_is_typed_and_not_tried_again_here(
    there: tuple[LibraryModel, Bedrock], status: int, name: str, kind: type[Exception]
) -> None:
    model, bedrock = there
    bedrock.answer = (status, json.dumps({"__type": name, "message": "no"}).encode())
    with pytest.raises(kind):
        await whole(model, asked())
    assert len(bedrock.bodies) == 1


async def test_a_stream_that_is_cut_is_typed(there: tuple[LibraryModel, Bedrock]) -> None:
    model, bedrock = there
    bedrock.answer = (200, spoken("Hä", "llo")[:-300])
    with pytest.raises(ModelUnavailable):
        await whole(model, asked())


@pytest.mark.parametrize(
    "settings",
    [{"bedrock_region": "us-east-1", "bedrock_url": "http://127.0.0.1:1"}, {"bedrock_region": ""}],
    ids=["a key in the open", "no region"],
)
def test_what_makes_no_client_is_refused_at_the_start(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "none")
    with pytest.raises(ModelMisconfigured, match="FLEET_BEDROCK"):
        bedrock_model(ModelSettings.model_validate({"bedrock_key": "k", **settings}))
