"""Whatever a history holds, the compiled messages are paired, in order, not empty, and within their budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from schemas.history import HistoryItem, Role, ToolCall
from schemas.parts import DataPart, FilePart, Part, TextPart
from schemas.profile import Pinned
from workers.agent import user
from workers.prompt import tokens
from workers.prompt.compile import Budgets, Sources, compile_prompt, turns_of
from workers.prompt.repair import repaired, says

TEXTS = st.sampled_from(["", " \n", "hi", "ü" * 50, "x" * 300, "</user-profile>", "x" * 3_000])
PARTS: st.SearchStrategy[Part] = st.one_of(
    TEXTS.map(lambda text: TextPart(text=text)),
    st.just(DataPart(data={"a": [1, None]})),
    st.just(FilePart(media_type="image/png", data="aGk=")),
)
CALLS = st.lists(st.sampled_from("abcd"), max_size=3)


@st.composite
def turns(draw: st.DrawFn, number: int) -> list[HistoryItem]:
    """A turn as it may have ended: cut short, steered, calls without results and results without calls."""
    items: list[HistoryItem] = []
    for role in draw(st.lists(st.sampled_from(["user", "assistant", "tool", "tool"]), max_size=8)):
        calls: tuple[ToolCall, ...] = ()
        if role == "assistant":
            calls = tuple(ToolCall(call=call, name="look", arguments={}) for call in draw(CALLS))
        items.append(
            HistoryItem(
                id=f"t{number}~{len(items)}",
                turn=f"t{number}",
                role=cast(Role, role),
                parts=tuple(draw(st.lists(PARTS, max_size=2))),
                at_ms=1,
                calls=calls,
                call=draw(st.sampled_from([*"abcd", None])) if role == "tool" else None,
                partial=draw(st.booleans()),
            )
        )
    return items


@st.composite
def histories(draw: st.DrawFn) -> list[HistoryItem]:
    return [item for number in range(draw(st.integers(0, 8))) for item in draw(turns(number))]


def check(items: Sequence[HistoryItem]) -> None:
    """As a strict provider reads them."""
    due: list[str] = []
    for item in items:
        assert item.calls or says(item), f"empty: {item}"
        if item.role == "tool":
            assert due, f"a result that nobody asked for: {item}"
            assert item.call == due.pop(0)
        else:
            assert not due, f"calls without results: {due}"
            due = [call.call for call in item.calls]
            assert len(set(due)) == len(due)
    assert not due


@given(histories())
def test_repaired_messages_pass_a_strict_check_and_keep_what_was_right(history: list[HistoryItem]) -> None:
    made = repaired(history)

    check(made)
    assert repaired(made) == made
    said = [item.id for item in history if item.role != "tool" and says(item)]
    assert sorted(said) == sorted(item.id for item in made if item.role != "tool" and says(item))


@given(histories(), st.integers(0, 3_000), st.sampled_from(["", "They spoke."]), st.booleans())
def test_compiled_messages_are_paired_ordered_and_within_the_budget(
    history: list[HistoryItem], budget: int, summary: str, known: bool
) -> None:
    profile = Pinned(version=1, summary="likes tea") if known else None
    of = Sources("Be brief.", history, (user("now"),), profile=profile, summary=summary, tail=(user("[noon]"),))
    prompt = compile_prompt(of, Budgets(history=budget))
    head = int(known) + bool(summary)
    kept = prompt.messages[head:-1]

    check(prompt.messages)
    assert prompt.messages[-1].text == "now"
    assert tokens.of_items(kept) <= max(budget - (tokens.of_item(prompt.messages[head - 1]) if summary else 0), 0)
    good = repaired(history)
    assert list(kept) == good[len(good) - len(kept) :]
    if prompt.dropped:
        assert not kept or kept[0].turn != good[len(good) - len(kept) - 1].turn
        assert prompt.dropped == len(turns_of(good[: len(good) - len(kept)]))
    else:
        assert len(kept) == len(good)
    everything = tokens.of_text(prompt.system) + tokens.of_items((*prompt.messages, *prompt.tail))
    assert prompt.estimated == everything
