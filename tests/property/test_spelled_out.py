"""What is spelled out because every turn writes it says the same as the models that are its public definition."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from schemas.base import without_defaults
from schemas.entries import Claim, Finish, Open, Position, body_of, entry_of
from schemas.frames import FRAME, Completed, Cut, Usage, completed, encode
from schemas.history import HistoryItem, ToolCall
from schemas.parts import DataPart, FilePart, Part, TextPart
from schemas.receipt import RECEIPT, Hops, Receipt, Waste
from schemas.turn import GivenItem, Turn, TurnInput

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBER = st.integers(0, 2**53)
JSON = st.recursive(st.none() | st.booleans() | NUMBER | TEXT, lambda inner: st.dictionaries(TEXT, inner, max_size=2))
OBJECT = st.dictionaries(TEXT, JSON, max_size=2)
PARTS: st.SearchStrategy[Part] = (
    st.builds(TextPart, text=TEXT)
    | st.builds(FilePart, media_type=st.just("image/png"), url=TEXT)
    | st.builds(DataPart, data=JSON)
)
CALLS = st.builds(ToolCall, call=TEXT, name=TEXT, arguments=st.none() | OBJECT)
ITEMS = st.builds(
    HistoryItem,
    id=TEXT,
    turn=TEXT,
    role=st.sampled_from(["user", "assistant", "tool"]),
    parts=st.lists(PARTS, max_size=2).map(tuple),
    at_ms=NUMBER,
    calls=st.lists(CALLS, max_size=1).map(tuple),
    call=st.none() | TEXT,
    partial=st.booleans(),
)
USAGE = st.lists(
    st.builds(Usage, model=TEXT, input_tokens=NUMBER, output_tokens=NUMBER, cached_input_tokens=st.none() | NUMBER),
    max_size=2,
).map(tuple)
RECEIPTS = st.builds(
    Receipt,
    tenant=TEXT,
    session=TEXT,
    turn=TEXT,
    user=TEXT,
    agent=TEXT,
    outcome=st.just("completed"),
    attempt=NUMBER,
    at_ms=NUMBER,
    hops=st.builds(Hops, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER),
    usage=USAGE,
    money=st.none() | st.just(0.25),
    model_calls=NUMBER,
    retries=NUMBER,
    whole_us=NUMBER,
    unpriced=st.lists(TEXT, max_size=1).map(tuple),
    waste=st.none() | st.builds(Waste, NUMBER, NUMBER),
    quality=st.none() | st.just({"length": 0.5}),
)
INPUTS = st.builds(
    TurnInput,
    text=TEXT,
    parts=st.lists(PARTS, max_size=1).map(tuple),
    metadata=OBJECT,
    options=st.none() | OBJECT,
    tools=st.none() | st.lists(TEXT, max_size=1).map(tuple),
    history=st.none() | st.just((GivenItem(role="user", text="before"),)),
) | st.builds(Turn, text=TEXT, user=st.just("u"), if_busy=st.just("reject"))
CLAIMS = st.builds(
    Claim,
    at_ms=NUMBER,
    turn=TEXT,
    attempt=NUMBER,
    tries=NUMBER,
    worker=TEXT,
    user=TEXT,
    position=st.builds(Position, TEXT, NUMBER, NUMBER, NUMBER),
    digest=TEXT,
    deadline_ms=NUMBER,
    reply_to=st.none() | TEXT,
    traceparent=st.none() | TEXT,
    input=st.none() | INPUTS,
    opens=st.none() | st.builds(Open, at_ms=NUMBER, user=TEXT, agent=TEXT, agent_version=TEXT, op=st.none() | TEXT),
)
FINISHES = st.builds(
    Finish,
    at_ms=NUMBER,
    turn=TEXT,
    attempt=NUMBER,
    outcome=st.sampled_from(["completed", "failed", "cancelled"]),
    by=st.none() | st.sampled_from(["user", "rollback"]),
    op=st.none() | TEXT,
    history=st.lists(ITEMS, max_size=2).map(tuple),
    rollback=st.booleans(),
    receipt=st.none() | RECEIPTS,
    joined=st.lists(TEXT, max_size=1).map(tuple),
    claim=st.none() | CLAIMS,
)


def canonical(raw: bytes | str) -> str:
    return json.dumps(from_json(raw), sort_keys=True)


@settings(max_examples=150, deadline=None)
@given(entry=CLAIMS | FINISHES)
def test_an_entry_comes_back_and_says_what_its_model_says(entry: Claim | Finish) -> None:
    body = body_of(entry)
    assert body_of(entry_of(entry.k, body)) == body
    if not isinstance(entry, Finish) or entry.receipt is None:
        assert canonical(body) == canonical(without_defaults(entry))


@settings(max_examples=150, deadline=None)
@given(receipt=RECEIPTS)
def test_a_receipt_comes_back(receipt: Receipt) -> None:
    finish = Finish(at_ms=1, turn="t", attempt=1, outcome="completed", receipt=receipt)
    found = entry_of("finish", body_of(finish))
    assert isinstance(found, Finish)
    assert found.receipt == receipt
    assert RECEIPT.validate_json(json.dumps(from_json(body_of(finish))["receipt"])) == receipt


@settings(max_examples=150, deadline=None)
@given(
    text=TEXT,
    messages=st.lists(ITEMS, max_size=2).map(tuple),
    usage=USAGE,
    finish=st.sampled_from(["stop", "length"]),
    data=JSON,
    truncated=st.none() | st.builds(Cut, file=TEXT),
)
def test_a_completed_frame_reads_as_its_model_encodes(**said: Any) -> None:
    place: dict[str, Any] = {"tenant": "a", "session": "s", "turn": "t", "attempt": 1, "seq": 2, "at_ms": 3}
    raw = completed(**place, **said)
    model = Completed(**place, **said)
    assert FRAME.validate_json(raw) == model
    if not said["messages"]:
        assert canonical(raw) == canonical(encode(model))
