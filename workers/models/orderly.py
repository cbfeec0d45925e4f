"""A history as every provider takes it: calls paired with their results, names and ids legal, nothing empty. Knows no
provider's format.

Pure and stable: what comes later changes nothing of what came before, so that a provider's cache of the prefix holds;
but for a call whose result comes later, which is not there until then.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

from schemas.history import HistoryItem, ToolCall
from schemas.parts import TextPart

_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")
_NAME_CHARS = 64


def orderly(items: Sequence[HistoryItem]) -> list[HistoryItem]:
    """What each message says, in order: each result right after the message whose call it answers, in the order of the
    calls. Left out: calls without a result and results that nobody asked for (a provider refuses the whole request for
    either), messages that say nothing. An id that came before, or that not every provider takes, is replaced."""
    taken: set[int] = set()
    seen: dict[str, int] = {}
    kept: list[HistoryItem] = []
    for place, item in enumerate(items):
        if item.role == "tool":
            continue
        pairs = list(_pairs(items, place, taken))
        calls = []
        results = []
        for call, result in pairs:
            name = _unique(call.call, seen)
            calls.append(call.model_copy(update={"call": name, "name": _legal(call.name)}))
            results.append(result if result.call == name else result.model_copy(update={"call": name}))
        if calls or _says_something(item):
            kept.append(item if tuple(calls) == item.calls else item.model_copy(update={"calls": tuple(calls)}))
            kept.extend(results)
    return kept


def _pairs(items: Sequence[HistoryItem], place: int, taken: set[int]) -> Iterator[tuple[ToolCall, HistoryItem]]:
    """The calls of the message at `place`, each with its result: the first one that is not taken, up to where the same
    id is asked for again."""
    for call in items[place].calls:
        for later in range(place + 1, len(items)):
            other = items[later]
            if other.role == "tool" and other.call == call.call and later not in taken:
                taken.add(later)
                yield call, other
                break
            if any(again.call == call.call for again in other.calls):
                break


def _unique(call: str, seen: dict[str, int]) -> str:
    """The id itself, where it can be."""
    times = seen[call] = seen.get(call, 0) + 1
    if times == 1 and _ID.fullmatch(call):
        return call
    return "call_" + hashlib.sha256(f"{times}~{call}".encode(errors="replace")).hexdigest()[:20]


def _legal(name: str) -> str:
    return _NOT_IN_A_NAME.sub("_", name)[:_NAME_CHARS] or "_"


def _says_something(item: HistoryItem) -> bool:
    return any(not isinstance(part, TextPart) or part.text.strip() for part in item.parts)
