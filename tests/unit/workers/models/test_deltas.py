"""Events into joined pieces and an end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.frames import Usage
from schemas.history import ToolCall
from workers.models.deltas import Deltas
from workers.models.port import ModelChunk, ModelDone, ModelRateLimited, ModelRefused, ModelUnavailable


def event(delta: dict[str, Any] | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": more.pop("finish", None)}
    return json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more}).encode()


def said(text: str) -> bytes:
    return event({"content": text})


def reading(*events: bytes) -> Deltas:
    deltas = Deltas("m")
    deltas.add(list(events))
    return deltas


def test_deltas_are_joined_until_they_are_taken() -> None:
    deltas = reading(event({"role": "assistant", "content": ""}), said("Hel"), said("lo "))
    assert deltas.take() == ModelChunk("Hello ")
    assert deltas.take() is None
    deltas.add([said("you"), event(finish="stop"), b"[DONE]"])
    assert (deltas.take(), deltas.ended, deltas.done()) == (ModelChunk("you"), True, ModelDone("stop", model="m"))


def test_reasoning_is_kept_apart() -> None:
    assert reading(event({"reasoning_content": "hm"}), event({"reasoning": "m"}), said("so")).take() == ModelChunk(
        "so", "hmm"
    )


def test_text_beside_a_finish_or_a_usage_is_not_lost() -> None:
    deltas = reading(event({"content": "a"}, finish="length"), event({"content": "b"}, usage={"prompt_tokens": 3}))
    assert deltas.take() == ModelChunk("ab")
    assert deltas.done() == ModelDone("length", Usage(model="m", input_tokens=3, output_tokens=0), model="m")


def test_usage_comes_with_its_details_and_without_choices() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    deltas = reading(said("a"), json.dumps({"choices": [], "usage": usage}).encode())
    want = Usage(model="m", input_tokens=9, output_tokens=4, cached_input_tokens=8, reasoning_tokens=2)
    assert deltas.done().usage == want
    assert not deltas.finished


@pytest.mark.parametrize(
    "usage", [None, [], {"prompt_tokens": "x", "completion_tokens": -1, "prompt_tokens_details": 7}]
)
def test_usage_that_makes_no_sense_does_no_harm(usage: Any) -> None:
    done = reading(event({"content": "a"}, usage=usage)).done()
    assert done.usage in (None, Usage(model="m", input_tokens=0, output_tokens=0))


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("tool_calls", "stop"),
        ("eos", "stop"),
    ],
)
def test_each_finish_has_its_name(reason: str, finish: str) -> None:
    deltas = reading(event(finish=reason))
    assert (deltas.finished, deltas.done().finish) == (True, finish)


def test_an_answer_that_is_not_streamed_counts_as_one_delta() -> None:
    whole = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "all"}, "finish_reason": "stop"}]}
    deltas = reading(json.dumps(whole).encode())
    assert (deltas.take(), deltas.finished) == (ModelChunk("all"), True)


def test_only_the_first_choice_is_read() -> None:
    other = json.dumps({"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": None}]}).encode()
    assert reading(other, said("yes")).take() == ModelChunk("yes")


def test_a_refusal_is_shown() -> None:
    assert reading(event({"refusal": "I will not."})).take() == ModelChunk("I will not.")


def test_halves_of_a_surrogate_pair_are_joined_over_deltas_and_reads() -> None:
    high = rb'{"choices":[{"index":0,"delta":{"content":"a\ud83d"},"finish_reason":null}]}'
    low = rb'{"choices":[{"index":0,"delta":{"content":"\ude00b"},"finish_reason":null}]}'
    assert reading(high, low).take() == ModelChunk("a😀b")
    deltas = reading(high)
    assert deltas.take() == ModelChunk("a")
    deltas.add([low])
    assert deltas.take() == ModelChunk("😀b")
    lonely = reading(high, event(finish="stop"))
    assert (lonely.take(), lonely.last(), lonely.last()) == (ModelChunk("a"), ModelChunk("\ufffd"), None)


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    assert reading(said("x").replace(b"x", b"a\xffb")).take() == ModelChunk("a\ufffdb")


def test_tool_calls_are_put_together() -> None:
    deltas = reading(
        event({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "find", "arguments": ""}}]}),
        event({"tool_calls": [{"index": 0, "function": {"arguments": '{"q":'}}]}),
        event({"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "say", "arguments": "oops"}}]}),
        event({"tool_calls": [{"index": 0, "function": {"arguments": ' "x"}'}}]}, finish="tool_calls"),
    )
    calls = (
        ToolCall(call="c1", name="find", arguments={"q": "x"}),
        ToolCall(call="c2", name="say", arguments_text="oops"),
    )
    assert deltas.done() == ModelDone("stop", None, calls, "m")
    assert deltas.take() is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "slow down", "code": "rate_limit_exceeded"}, ModelRateLimited),
        ({"message": "slow down", "code": 429}, ModelRateLimited),
        ({"message": "too long", "type": "invalid_request_error"}, ModelRefused),
        ({"message": "pay first", "code": "insufficient_quota"}, ModelRefused),
        ({"message": "oh", "type": "server_error"}, ModelUnavailable),
        ({"message": "oh", "code": "502"}, ModelUnavailable),
        ("broken", ModelUnavailable),
    ],
)
def test_an_error_in_the_stream_is_typed(error: Any, kind: type[Exception]) -> None:
    deltas = reading(said("so far"))
    with pytest.raises(kind):
        deltas.add([json.dumps({"error": error}).encode()])
    assert deltas.take() == ModelChunk("so far")


@pytest.mark.parametrize("junk", [b"nonsense", b"[1]", b'"x"', b"[" * 100_000])
def test_what_is_no_object_ends_the_stream_typed(junk: bytes) -> None:
    with pytest.raises(ModelUnavailable):
        reading(junk)


@pytest.mark.parametrize(
    "odd",
    [
        b"{}",
        b'{"choices":null}',
        b'{"choices":[7]}',
        b'{"choices":[{"delta":null}]}',
        b'{"choices":[{"delta":{"content":null}}]}',
    ],
)
def test_events_that_say_nothing_are_taken(odd: bytes) -> None:
    assert reading(odd, said("a")).take() == ModelChunk("a")


def test_content_that_is_no_text_ends_the_stream_typed() -> None:
    deltas = reading(event({"content": ["a"]}))
    with pytest.raises(ModelUnavailable):
        deltas.take()
