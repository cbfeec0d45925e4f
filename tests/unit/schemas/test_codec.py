"""Records to models: contract.md's rules for ids, headers, structured mode, and what is refused."""

from __future__ import annotations

import json

import pytest

from schemas.codec import (
    CONTROL_TYPE,
    TURN_TYPE,
    control_headers,
    decode_control,
    decode_turn,
    encode_control,
    encode_turn,
    parse_reply_to,
    parse_turn,
    reply_to_of,
    turn_headers,
)
from schemas.control import CancelControl, OpenControl
from schemas.errors import Refusal
from schemas.limits import Limits
from schemas.turn import Turn, digest
from tests.support.records import PlainRecord


def refusal_of(record: PlainRecord) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decode_turn(record, "agent.turns")
    return caught.value


def test_the_smallest_turn_takes_its_id_from_its_place() -> None:
    found = decode_turn(PlainRecord(), "agent.turns")
    assert found.id == "at-3-17-1800000000000"
    assert (found.session, found.turn.tenant, found.turn.user, found.turn.text) == ("s1", "default", "anonymous", "hi")
    assert found.reply_to is None
    assert found.position == ("agent.turns", 3, 17, 1_800_000_000_000)


def test_the_value_beats_the_header_and_the_header_beats_the_place() -> None:
    headers = (("ce_id", b"from-header"),)
    assert decode_turn(PlainRecord(headers=headers), "x").id == "from-header"
    assert decode_turn(PlainRecord(b'{"text":"x","turn":"mine"}', headers=headers), "x").id == "mine"


def test_an_event_id_that_is_no_turn_id_becomes_its_digest() -> None:
    first = decode_turn(PlainRecord(headers=(("ce_id", b"a b/c"),)), "x").id
    assert first.startswith("ce-")
    assert len(first) == 3 + 64
    assert decode_turn(PlainRecord(offset=99, headers=(("ce_id", b"a b/c"),)), "x").id == first


def test_structured_mode_is_read_with_its_extensions() -> None:
    envelope = {
        "specversion": "1.0",
        "id": "e1",
        "type": TURN_TYPE,
        "replyto": "2:gw",
        "traceparent": "00-a-b-01",
        "data": {"text": "deep"},
    }
    headers = (("content-type", b"application/cloudevents+json"),)
    found = decode_turn(PlainRecord(json.dumps(envelope).encode(), headers=headers), "x")
    assert (found.id, found.turn.text, found.reply_to, found.traceparent) == ("e1", "deep", "2:gw", "00-a-b-01")


@pytest.mark.parametrize("value", [b"[]", b"{}", b'{"data":"text"}', b"nope", b'{"data":[1]}'])
def test_structured_mode_without_an_object_in_data_is_refused(value: bytes) -> None:
    headers = (("content-type", b"application/cloudevents+json"),)
    assert refusal_of(PlainRecord(value, headers=headers)).code == "bad_request"


def test_bridges_that_keep_only_ce_headers_are_understood() -> None:
    headers = (("ce_replyto", b"1:gw9"), ("ce_traceparent", b"00-x-y-00"))
    found = decode_turn(PlainRecord(headers=headers), "x")
    assert (found.reply_to, found.traceparent) == ("1:gw9", "00-x-y-00")


@pytest.mark.parametrize("reply_to", [b"", b"x:gw", b"1", b"1:", b"-1:gw", b"1:a/b", b"9999999:gw", b"\xff"])
def test_a_reply_to_that_is_none_is_ignored(reply_to: bytes) -> None:
    assert decode_turn(PlainRecord(headers=(("reply_to", reply_to),)), "x").reply_to is None
    assert reply_to_of((("reply_to", reply_to),)) is None


def test_a_reply_to_has_two_parts() -> None:
    assert parse_reply_to("3:gw-1:x") == (3, "gw-1:x")


def test_an_unknown_turnfleet_type_is_unsupported_and_a_foreign_one_is_read() -> None:
    assert refusal_of(PlainRecord(headers=(("ce_type", b"turnfleet.turn.v9"),))).code == "unsupported"
    assert decode_turn(PlainRecord(headers=(("ce_type", b"com.example.chat"),)), "x").turn.text == "hi"


@pytest.mark.parametrize("key", [None, b"", b"a/b", b"a~b", b"a b", b"k" * 129, "ä".encode(), b"a\n", b"\x00"])
def test_a_key_that_is_no_session_id_is_refused(key: bytes | None) -> None:
    assert refusal_of(PlainRecord(key=key)).code == "bad_request"


@pytest.mark.parametrize("session", [b"s", b"A-Z_a.z:9", b"k" * 128])
def test_every_legal_session_id_is_taken(session: bytes) -> None:
    assert decode_turn(PlainRecord(key=session), "x").session == session.decode()


def test_too_large_says_so_and_counts_bytes_not_characters() -> None:
    fits = {"text": "ä" * 131_072}
    assert parse_turn(json.dumps(fits)).text == fits["text"]
    with pytest.raises(Refusal, match="262146 bytes") as caught:
        parse_turn(json.dumps({"text": "ä" * 131_073}))
    assert caught.value.code == "too_large"
    assert refusal_of(PlainRecord(b'{"text":"' + b"x" * 1_000_001 + b'"}')).code == "too_large"


def test_text_and_parts_count_together() -> None:
    small = Limits(content_bytes=100)
    parts = [{"type": "text", "text": "y" * 60}]
    with pytest.raises(Refusal, match="at most 100"):
        parse_turn(json.dumps({"text": "x" * 60, "parts": parts}), small)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "media_type": "image/png"},
        {"type": "file", "media_type": "image/png", "url": "u", "data": "d"},
        {"type": "file", "url": "u"},
        {"type": "hologram"},
        {"text": "no type"},
        {"type": "data"},
    ],
)
def test_a_part_must_be_one_of_the_known_shapes(part: dict[str, str]) -> None:
    with pytest.raises(Refusal):
        parse_turn(json.dumps({"parts": [part]}))


def test_a_turn_may_consist_of_parts_alone() -> None:
    turn = parse_turn(b'{"parts":[{"type":"file","media_type":"image/png","url":"https://x"}]}')
    assert turn.text == ""
    assert len(turn.parts) == 1


def test_deep_and_wide_metadata_is_refused() -> None:
    deep: object = 1
    for _ in range(40):
        deep = {"a": deep}
    for metadata in (deep, {"a": list(range(10_001))}):
        with pytest.raises(Refusal) as caught:
            parse_turn(json.dumps({"text": "x", "metadata": metadata}))
        assert caught.value.code == "bad_request"


def test_refusals_never_repeat_the_content() -> None:
    with pytest.raises(Refusal) as caught:
        parse_turn(b'{"text":["my secret"]}')
    assert "secret" not in caught.value.text


def test_what_we_write_we_read() -> None:
    turn = Turn(turn="t1", user="u", text="x", metadata={"$a.b": [1, None, "ü"]}, deadline_ms=1_900_000_000_000)
    headers = tuple(turn_headers("t1", source="gw", now_ms=1_800_000_000_123, reply_to="0:gw"))
    found = decode_turn(PlainRecord(encode_turn(turn), headers=headers), "agent.turns")
    assert found.turn == turn
    assert (found.id, found.reply_to) == ("t1", "0:gw")
    assert dict(headers)["ce_time"] == b"2027-01-15T08:00:00.123+00:00"


def test_controls_are_read_by_kind() -> None:
    control = CancelControl(op="o1", turn="t1", user="u")
    headers = tuple(control_headers("o1", source="gw", now_ms=0))
    found = decode_control(PlainRecord(encode_control(control), headers=headers), "agent.control")
    assert found.control == control
    assert dict(headers)["ce_type"] == CONTROL_TYPE.encode()
    opened = decode_control(PlainRecord(encode_control(OpenControl(op="o2", agent="chat"))), "agent.control")
    assert opened.control.kind == "open"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b'{"op":"o","kind":"levitate"}', "unsupported"),
        (b'{"kind":"cancel","turn":"t"}', "bad_request"),
        (b'{"op":"o","kind":"cancel"}', "bad_request"),
        (b"[]", "bad_request"),
        (b"nope", "bad_request"),
    ],
)
def test_a_malformed_control_is_refused(value: bytes, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        decode_control(PlainRecord(value), "agent.control")
    assert caught.value.code == code


class TestDigest:
    def test_is_the_same_for_a_retry_with_a_new_deadline(self) -> None:
        once = Turn(text="x", user="u", deadline_ms=1_900_000_000_000)
        assert digest(once) == digest(once.model_copy(update={"deadline_ms": None, "if_busy": "reject"}))

    @pytest.mark.parametrize(
        "change", [{"text": "y"}, {"user": "v"}, {"agent": "echo"}, {"metadata": {"a": 1}}, {"tools": ("t",)}]
    )
    def test_differs_with_the_content(self, change: dict[str, object]) -> None:
        once = Turn(text="x", user="u")
        assert digest(once) != digest(once.model_copy(update=change))

    def test_does_not_mix_user_and_text(self) -> None:
        assert digest(Turn(text="bc", user="a")) != digest(Turn(text="c", user="ab"))
