"""Makes room within one run: old results of tools are shown as notes. Pure; what it decides follows from what was said.

Room is made rarely and for long: beyond `most` tokens of results the oldest become notes until a quarter of that is
left, so that the messages before stay as they were from call to call, and a provider's cache holds. A result stays with
its call, and whole in the journal and in the session's history.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.history import HistoryItem
from schemas.parts import TextPart, text_of
from workers.prompt import tokens

_LEFT = 4  # a quarter stays whole
_SHORT = 200  # tokens: a result of no more is not worth a note
_SHOWN = 300  # characters of it that the note shows
_NOTE = (
    "[This result had about {tokens} tokens and is left out to make room; it lies in the session's history under call "
    "{call}. It began:]\n{start}"
)


class Room:
    """Of one run. `most`: tokens of results that are shown whole, by our own estimate; those of earlier turns are the
    prompt's affair."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen = 0
        self._whole: list[int] = []  # where the results lie that are shown whole, oldest first
        self._taken = 0
        self._notes: dict[int, HistoryItem] = {}

    def shown(self, said: Sequence[HistoryItem]) -> tuple[HistoryItem, ...]:
        """What a model is shown of `said`, of which nothing but its end is new."""
        for place in range(self._seen, len(said)):
            item = said[place]
            if item.role == "tool" and not item.turn and (size := tokens.of_item(item)) > _SHORT:
                self._whole.append(place)
                self._taken += size
        self._seen = len(said)
        if self._taken > self._most:
            self._make(said)
        return tuple(self._notes.get(place, item) for place, item in enumerate(said))

    def _make(self, said: Sequence[HistoryItem]) -> None:
        while self._taken > self._most // _LEFT and len(self._whole) > 1:  # the newest one is what it asked for
            place = self._whole.pop(0)
            self._taken -= tokens.of_item(said[place])
            self._notes[place] = _noted(said[place])


def _noted(item: HistoryItem) -> HistoryItem:
    text = text_of(item.parts)[:_SHOWN] or "(no text)"
    note = _NOTE.format(tokens=tokens.of_item(item), call=item.call, start=text)
    return item.model_copy(update={"parts": (TextPart(text=note),)})
