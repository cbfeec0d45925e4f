"""Messages as every provider takes them: calls and results paired and adjacent, in order, nothing empty. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.history import HistoryItem
from schemas.parts import TextPart


def repaired(items: Sequence[HistoryItem]) -> list[HistoryItem]:
    """`items`, as they are where nothing is wrong with them. O(n)

    The results of a message's calls follow it at once, in the order of the calls, before whatever was said meanwhile;
    a call without a result goes, and so do a result that nobody asked for (or a second one) and what says nothing.
    """
    made: list[HistoryItem] = []
    number, count = 0, len(items)
    while number < count:
        item = items[number]
        number += 1
        if item.calls:
            upto = number + len(item.calls)
            if _in_order(item, items[number:upto]):
                made.append(item)
                made += items[number:upto]
                number = upto
                continue
            upto = _round(items, number)
            made += _answered(item, items[number:upto])
            number = upto
        elif item.role != "tool" and says(item):
            made.append(item)
    return made


def says(item: HistoryItem) -> bool:
    """Whether a message has anything in it beside calls."""
    parts = item.parts
    if len(parts) == 1 and type(parts[0]) is TextPart:
        text = parts[0].text
        return bool(text) and not text.isspace()
    return any(type(part) is not TextPart or (part.text and not part.text.isspace()) for part in parts)


def _in_order(item: HistoryItem, after: Sequence[HistoryItem]) -> bool:
    """Whether the results of all calls follow, each in its place: nearly always."""
    calls = item.calls
    if len(after) != len(calls) or (len(calls) > 1 and len({call.call for call in calls}) != len(calls)):
        return False
    for call, one in zip(calls, after, strict=True):
        if one.call != call.call or one.role != "tool" or one.turn != item.turn or not says(one):
            return False
    return True


def _round(items: Sequence[HistoryItem], start: int) -> int:
    """Where the assistant speaks again, or another turn begins."""
    for number in range(start, len(items)):
        if items[number].role == "assistant" or items[number].turn != items[start - 1].turn:
            return number
    return len(items)


def _answered(item: HistoryItem, after: Sequence[HistoryItem]) -> list[HistoryItem]:
    results: dict[str, HistoryItem] = {}
    for one in after:
        if one.role == "tool" and one.call is not None:
            results.setdefault(one.call, one)
    asked = {call.call: call for call in item.calls if call.call in results}
    made = []
    if asked or says(item):
        calls = tuple(asked.values())
        made.append(item if calls == item.calls else item.model_copy(update={"calls": calls}))
    made += [_spoken(results[call]) for call in asked]
    made += [one for one in after if one.role != "tool" and says(one)]
    return made


def _spoken(result: HistoryItem) -> HistoryItem:
    """A result that says nothing says so."""
    return result if says(result) else result.model_copy(update={"parts": (TextPart(text="[nothing]"),)})
