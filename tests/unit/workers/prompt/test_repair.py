"""Messages are paired and adjacent; what was right stays the very same."""

from __future__ import annotations

from typing import Any

from schemas.history import HistoryItem, ToolCall
from schemas.parts import TextPart
from workers.prompt.repair import repaired


def item(role: Any, text: str = "", calls: str = "", call: str | None = None, turn: str = "t") -> HistoryItem:
    asked = tuple(ToolCall(call=name, name="look", arguments={}) for name in calls)
    parts = (TextPart(text=text),) if text else ()
    return HistoryItem(id="", turn=turn, role=role, parts=parts, at_ms=1, calls=asked, call=call)


def told(items: list[HistoryItem]) -> list[str]:
    return [f"{it.role[0]}{it.text}{''.join(call.call for call in it.calls)}{it.call or ''}" for it in repaired(items)]


def test_what_is_right_stays_the_very_same() -> None:
    right = [item("user", "hi"), item("assistant", "x", "ab"), item("tool", "1", call="a"), item("tool", "2", call="b")]

    assert all(one is two for one, two in zip(repaired(right), right, strict=True))


def test_results_follow_their_calls_in_the_order_of_the_calls_before_what_was_said_meanwhile() -> None:
    mixed = [
        item("assistant", "", "ab"),
        item("tool", "2", call="b"),
        item("user", "wait"),
        item("tool", "1", call="a"),
        item("assistant", "done"),
    ]

    assert told(mixed) == ["aab", "t1a", "t2b", "uwait", "adone"]


def test_calls_without_a_result_and_results_without_a_call_go() -> None:
    mixed = [
        item("tool", "0", call="z"),
        item("assistant", "", "ab"),
        item("tool", "1", call="a"),
        item("tool", "again", call="a"),
        item("tool", "x", call="c"),
        item("assistant", "", "d"),
        item("assistant", "", "e", turn="u"),
        item("tool", "late", call="d", turn="u"),
    ]

    assert told(mixed) == ["aa", "t1a"]


def test_what_says_nothing_goes_and_a_result_that_says_nothing_says_so() -> None:
    mixed = [item("user", " \n"), item("assistant"), item("assistant", "", "a"), item("tool", "", call="a")]

    assert told(mixed) == ["aa", "t[nothing]a"]
