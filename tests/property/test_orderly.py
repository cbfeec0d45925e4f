"""Whatever a history holds, what a provider is sent is well formed, and both vendors' own types agree."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.history import HistoryItem, ToolCall
from schemas.parts import DataPart, FilePart, Part, TextPart
from tests.support.vendors import check_anthropic, check_openai
from workers.models.orderly import orderly

IDS = st.sampled_from(["a", "b", "call-0", "", "x" * 60, "näher", "a.b"])
TEXTS = st.sampled_from(["", " ", "hi", "well"])
PARTS = st.lists(
    st.one_of(
        TEXTS.map(lambda text: TextPart(text=text)),
        st.just(DataPart(data={"a": 1})),
        st.just(FilePart(media_type="image/png", data="AAAA")),
        st.just(FilePart(media_type="image/png", url="https://pictures.invalid/1")),
        st.just(FilePart(media_type="text/csv", file="f1")),
    ),
    max_size=2,
).map(tuple)
CALLS = st.lists(
    st.builds(
        ToolCall,
        call=IDS,
        name=st.sampled_from(["find", "no such tool!", ""]),
        arguments=st.sampled_from([None, {"q": 1}]),
        arguments_text=st.sampled_from([None, "no json", "[1]"]),
    ),
    max_size=3,
).map(tuple)


def item(role: Any, parts: tuple[Part, ...], calls: tuple[ToolCall, ...] = (), call: str | None = None) -> HistoryItem:
    return HistoryItem(id="o~0", turn="o", role=role, parts=parts, at_ms=0, calls=calls, call=call)


ITEMS = st.lists(
    st.one_of(
        st.builds(item, st.just("user"), PARTS),
        st.builds(item, st.just("assistant"), PARTS, CALLS),
        st.builds(item, st.just("tool"), PARTS, st.just(()), IDS),
    ),
    max_size=9,
)


def check_pairs(items: list[HistoryItem]) -> None:
    """Each call is answered once, right behind its message, in order; each id comes once."""
    asked = [call.call for message in items for call in message.calls]
    answered = [message.call for message in items if message.role == "tool"]
    assert asked == answered
    assert len(set(asked)) == len(asked)
    assert all(0 < len(name) <= 40 and name.isascii() for name in asked)
    for place, message in enumerate(items):
        behind = items[place + 1 : place + 1 + len(message.calls)]
        assert [result.call for result in behind] == [call.call for call in message.calls]


@given(ITEMS)
def test_calls_are_paired_and_nothing_is_empty(items: list[HistoryItem]) -> None:
    found = orderly(items)
    check_pairs(found)
    assert all(message.calls or message.role == "tool" or message.parts for message in found)
    assert orderly(found) == found


def test_an_id_that_a_server_gives_in_each_turn_is_told_apart() -> None:
    call = ToolCall(call="call-0", name="find", arguments={})
    turn = [item("assistant", (), (call,)), item("tool", (TextPart(text="found"),), (), "call-0")]
    found = orderly([*turn, *turn])
    check_pairs(found)
    assert found[:2] == turn


@given(ITEMS)
def test_what_comes_later_changes_nothing_of_what_came_before(items: list[HistoryItem]) -> None:
    more = [*items, item("user", (TextPart(text="and now?"),))]
    assert orderly(more)[:-1] == orderly(items)


@given(ITEMS)
def test_openais_own_types_take_it(items: list[HistoryItem]) -> None:
    check_openai(items)


@settings(deadline=None)
@given(ITEMS)
async def test_anthropics_own_types_take_it(items: list[HistoryItem]) -> None:
    await check_anthropic(items)
