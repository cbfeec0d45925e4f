"""Our messages in OpenAI's format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.codes import Code
from schemas.errors import TerminalError
from schemas.history import HistoryItem, Role, ToolCall, said
from schemas.parts import DataPart, FilePart, Part, TextPart
from workers.models.openai_messages import body_of
from workers.models.port import ModelRequest, ToolSpec


def item(role: Role, *parts: Part | str, calls: tuple[ToolCall, ...] = (), call: str | None = None) -> HistoryItem:
    whole = tuple(TextPart(text=part) if isinstance(part, str) else part for part in parts)
    return HistoryItem(id="t~0", turn="t", role=role, parts=whole, at_ms=0, calls=calls, call=call)


def body(*messages: HistoryItem, with_usage: bool = True, **more: Any) -> dict[str, Any]:
    request = ModelRequest(session="s", turn="t", messages=messages, **more)
    found: dict[str, Any] = json.loads(body_of(request, "m", with_usage=with_usage))
    return found


def test_a_conversation_is_told_in_order_after_the_system_text() -> None:
    found = body(
        said(item="t~0", turn="t", role="user", text="hi", at_ms=0),
        item("assistant", "ho"),
        item("user", "so"),
        system="be kind",
    )
    assert found == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "ho"},
            {"role": "user", "content": "so"},
        ],
    }


def test_nothing_is_said_of_usage_where_it_is_not_understood() -> None:
    assert "stream_options" not in body(item("user", "hi"), with_usage=False)


def test_what_was_asked_for_is_sent_and_nothing_else() -> None:
    tools = (ToolSpec("find", "finds", {"type": "object"}),)
    found = body(item("user", "hi"), temperature=0.0, max_tokens=7, tools=tools)
    assert (found["temperature"], found["max_tokens"]) == (0.0, 7)
    assert found["tools"] == [
        {"type": "function", "function": {"name": "find", "description": "finds", "parameters": {"type": "object"}}}
    ]
    assert not found.keys() & {"user", "metadata"}


def test_calls_and_their_results_are_paired() -> None:
    first, second = (
        ToolCall(call="c1", name="find", arguments={"q": 1}),
        ToolCall(call="c2", name="gone", arguments_text="x"),
    )
    found = body(
        item("assistant", calls=(first, second)),
        item("tool", "found it", call="c1"),
        item("tool", "who asked?", call="c9"),
    )
    assert found["messages"] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"q":1}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "found it"},
    ]


def test_a_message_of_which_nothing_is_left_is_not_sent() -> None:
    assert body(item("assistant", calls=(ToolCall(call="c", name="x"),)), item("user", "hi"))["messages"] == [
        {"role": "user", "content": "hi"}
    ]


def test_files_and_data_are_told_as_the_format_can() -> None:
    picture = FilePart(media_type="image/png", data="AAAA")
    page = FilePart(media_type="application/pdf", data="BBBB", name="a.pdf")
    shown = FilePart(media_type="image/webp", url="https://pictures.invalid/1")
    found = body(item("user", "look", DataPart(data={"a": 1}), picture, page, shown))["messages"][0]["content"]
    assert found == [
        {"type": "text", "text": "look"},
        {"type": "text", "text": '{"a":1}'},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"}},
        {"type": "image_url", "image_url": {"url": "https://pictures.invalid/1"}},
    ]


STRANGE = [
    FilePart(media_type="text/csv", file="f1"),
    FilePart(media_type="application/pdf", url="https://pages.invalid/1"),
]


@pytest.mark.parametrize("part", STRANGE, ids=["stored", "address"])
def test_a_file_that_cannot_be_sent_is_refused_while_its_turn_runs_and_named_ever_after(part: FilePart) -> None:
    with pytest.raises(TerminalError) as caught:
        body(item("user", "look", part))
    assert caught.value.code is Code.BAD_REQUEST

    earlier = item("user", "look", part).model_copy(update={"turn": "another"})
    assert body(earlier)["messages"][0]["content"][1] == {"type": "text", "text": f"[file {part.media_type}]"}


def test_what_a_tool_shows_comes_after_all_results() -> None:
    calls = tuple(ToolCall(call=f"c{number}", name="draw", arguments={}) for number in range(2))
    picture = FilePart(media_type="image/png", data="AAAA", name="p.png")
    drawn = [item("tool", "done", picture, call="c0"), item("tool", "done", call="c1")]
    found = body(item("user", "draw"), item("assistant", calls=calls), *drawn, item("user", "well?"))["messages"]
    assert [message["role"] for message in found] == ["user", "assistant", "tool", "tool", "user", "user"]
    assert found[2]["content"] == "done[file p.png]"
    assert [block["type"] for block in found[4]["content"]] == ["text", "image_url"]
