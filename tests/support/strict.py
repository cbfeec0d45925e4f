"""A strict reader of stored histories: what every provider refuses is refused here, with a sentence. Knows no agent."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.history import HistoryItem


def faults(items: Sequence[HistoryItem]) -> list[str]:
    """What is wrong: calls without a result right behind them in their order, results nobody asked for, ids twice,
    nothing said, a role out of place."""
    found: list[str] = []
    waiting: list[str] = []
    ids: set[str] = set()
    calls: set[str] = set()
    for item in items:
        if item.id in ids:
            found.append(f"{item.id}: this id was there before")
        ids.add(item.id)
        if item.role == "tool":
            if not waiting or item.call != waiting[0]:
                found.append(f"{item.id}: a result for {item.call}, {waiting[:1] or 'none'} is due")
            waiting = waiting[1:]
            if not item.parts:
                found.append(f"{item.id}: an empty result")
            continue
        found += [f"{item.id}: {call} has no result" for call in waiting]
        waiting = [call.call for call in item.calls]
        found += [f"{item.id}: call {call} was there before" for call in waiting if call in calls]
        calls.update(waiting)
        if not item.text and not item.calls and not item.parts:
            found.append(f"{item.id}: nothing is said")
        if item.role == "user" and (item.calls or item.call):
            found.append(f"{item.id}: a user calls nothing")
    found += [f"the end: {call} has no result" for call in waiting]
    if items and items[0].role != "user":
        found.append(f"{items[0].id}: a conversation begins with its user")
    return found
