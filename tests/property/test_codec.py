"""Whatever the bytes are, the codec answers with a model or a refusal; what it writes it reads."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import decode_control, decode_turn, encode_turn, parse_turn
from schemas.errors import Refusal
from schemas.turn import Turn, digest
from tests.support.records import PlainRecord

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["ce_id", "ce_type", "reply_to", "traceparent", "content-type", "x"]), st.binary(max_size=40)
    ),
    max_size=6,
).map(tuple)


@given(value=st.none() | st.binary(max_size=300), key=st.none() | st.binary(max_size=140), headers=HEADERS)
def test_any_bytes_end_in_a_turn_or_a_refusal(
    value: bytes | None, key: bytes | None, headers: tuple[tuple[str, bytes], ...]
) -> None:
    record = PlainRecord(value, key, headers)
    for decode in (decode_turn, decode_control):
        try:
            decode(record, "agent.turns")
        except Refusal:
            continue


@given(value=JSON)
def test_any_json_ends_in_a_turn_or_a_refusal(value: object) -> None:
    try:
        parse_turn(json.dumps(value))
    except Refusal:
        return


@given(text=TEXT, metadata=st.dictionaries(TEXT, JSON, max_size=4), user=st.sampled_from(["u", "ü@x.y", "a b"]))
def test_a_turn_survives_the_wire(text: str, metadata: dict[str, object], user: str) -> None:
    turn = Turn.model_validate_json(json.dumps({"text": text, "metadata": metadata, "user": user}))
    again = Turn.model_validate_json(encode_turn(turn))
    assert again == turn
    assert digest(again) == digest(turn)
