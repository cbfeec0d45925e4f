"""What a client may send, and what is said of the rest."""

from __future__ import annotations

import pytest

from gateway.client_frames import AttachFrame, Misread, NotJson, TurnFrame, parse_client_frame
from schemas.codes import Code


def test_a_turn_is_read_and_what_nobody_knows_is_ignored() -> None:
    frame = parse_client_frame('{"type":"turn","session":"s","text":"hi","sparkle":{"a":1},"parts":[]}')

    assert isinstance(frame, TurnFrame)
    assert (frame.session, frame.text) == ("s", "hi")


def test_an_attach_says_how_far_it_got() -> None:
    frame = parse_client_frame('{"type":"attach","session":"s","after":{"turn":"t","attempt":1,"seq":2}}')

    assert isinstance(frame, AttachFrame)
    assert frame.after is not None
    assert (frame.after.attempt, frame.after.seq) == (1, 2)


@pytest.mark.parametrize("text", ["", "{", "nope", '{"type":"ping"}}', "{'type':'ping'}"])
def test_what_is_no_json_is_a_breach(text: str) -> None:
    with pytest.raises(NotJson):
        parse_client_frame(text)


@pytest.mark.parametrize(
    "text",
    [
        "null", "[]", "7", '"ping"', "{}", '{"type":"turn","session":"s","text":"\\udc00"}',
        '{"type":"turn","session":"s","metadata":' + "[" * 9_000 + "]" * 9_000 + "}",
        '{"type":"turn","session":"s","text":"a","timeout_ms":1e400}',
    ],
)  # fmt: skip
def test_json_that_is_none_of_ours_is_answered(text: str) -> None:
    with pytest.raises(Misread) as misread:
        parse_client_frame(text)

    assert misread.value.code is Code.BAD_REQUEST
    assert len(misread.value.text) < 300


def test_the_ref_of_a_bad_frame_is_still_answered() -> None:
    with pytest.raises(Misread) as misread:
        parse_client_frame('{"type":"turn","session":"s","text":7,"ref":"r1"}')

    assert misread.value.ref == "r1"


def test_an_unknown_type_is_unsupported() -> None:
    with pytest.raises(Misread) as misread:
        parse_client_frame('{"type":"dance"}')

    assert misread.value.code is Code.UNSUPPORTED


def test_an_attach_may_say_the_place_that_a_recovered_said_before_the_first_frame_of_an_attempt() -> None:
    frame = parse_client_frame('{"type":"attach","session":"s","after":{"turn":"t","attempt":1,"seq":-1}}')
    assert isinstance(frame, AttachFrame)
    assert frame.after is not None
    assert frame.after.seq == -1
