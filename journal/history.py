"""A session's conversation as a growing sequence with cheap old views. Knows nothing of entries or stores.

Views share one buffer: appending to the newest view is O(1), an older view stays what it was. Full chunks are cut at
places that depend on the items alone, so that every worker cuts alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

import orjson
from pydantic import JsonValue

from schemas.history import HistoryItem
from schemas.parts import DataPart, FilePart, TextPart

CHUNK_BYTES = 16_384  # small: what follows the last full chunk is written anew by every snapshot


def weight_of(kept: Mapping[str, JsonValue]) -> int:
    """Bytes of what a session keeps by name."""
    return len(orjson.dumps(dict(kept))) if kept else 0


def size_of(item: HistoryItem) -> int:
    """Bytes of an item, about; the same on every worker."""
    total = 64
    parts = item.parts
    if len(parts) == 1 and type(parts[0]) is TextPart and not item.calls:
        return total + len(parts[0].text)
    for part in parts:
        if isinstance(part, TextPart):
            total += len(part.text)
        elif isinstance(part, FilePart):
            total += len(part.data or "") + len(part.url or "") + 64
        elif isinstance(part, DataPart):
            total += len(repr(part.data))
    return total + sum(len(repr(call.arguments)) + 64 for call in item.calls)


class History(Sequence[HistoryItem]):
    """The items of one life of a session, oldest first."""

    __slots__ = ("_chunk_bytes", "_cuts", "_items", "_length", "_open_bytes", "_sealed", "size")

    def __init__(self, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._chunk_bytes = chunk_bytes
        self._items: list[HistoryItem] = []
        self._cuts: list[int] = []
        self._length = 0
        self._sealed = 0
        self._open_bytes = 0
        self.size = 0

    @classmethod
    def of(
        cls,
        chunks: Iterable[Sequence[HistoryItem]],
        tail: Sequence[HistoryItem],
        *,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> History:
        """From stored chunks and what follows them."""
        new = cls(chunk_bytes)
        for chunk in chunks:
            new._items.extend(chunk)
            new._cuts.append(len(new._items))
        new._sealed = len(new._cuts)
        new._length = len(new._items)
        new.size = sum(map(size_of, new._items))
        return new.extended(tail)

    def extended(self, items: Iterable[HistoryItem]) -> History:
        """A view with `items` at its end; this one stays as it is."""
        new = History.__new__(History)
        new._chunk_bytes = most = self._chunk_bytes
        newest = 0 < self._length == len(self._items)  # an empty view shares nothing: there is one for all sessions
        new._items = held = self._items if newest else self._items[: self._length]
        new._cuts = cuts = self._cuts if newest else self._cuts[: self._sealed]
        size, open_bytes = self.size, self._open_bytes
        for item in items:
            held.append(item)
            bytes_ = size_of(item)
            size += bytes_
            open_bytes += bytes_
            if open_bytes >= most:
                cuts.append(len(held))
                open_bytes = 0
        new.size = size
        new._length = len(held)
        new._sealed = len(cuts)
        new._open_bytes = open_bytes
        return new

    @property
    def chunk_count(self) -> int:
        """How many chunks are full."""
        return self._sealed

    @property
    def sealed_items(self) -> int:
        """How many items lie in full chunks."""
        return self._cuts[self._sealed - 1] if self._sealed else 0

    def chunk_start(self, index: int) -> int:
        """How many items lie before chunk `index`."""
        return self._cuts[index - 1] if index else 0

    def chunk(self, index: int) -> tuple[HistoryItem, ...]:
        """The items of full chunk `index`."""
        return tuple(self._items[self.chunk_start(index) : self._cuts[index]])

    def tail(self) -> tuple[HistoryItem, ...]:
        """The items after the last full chunk."""
        return tuple(self._items[self.sealed_items : self._length])

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[HistoryItem]:
        for index in range(self._length):
            yield self._items[index]

    @overload
    def __getitem__(self, index: int) -> HistoryItem: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[HistoryItem, ...]: ...
    def __getitem__(self, index: int | slice) -> HistoryItem | tuple[HistoryItem, ...]:
        if isinstance(index, slice):
            return tuple(self._items[i] for i in range(*index.indices(self._length)))
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return self._items[index % self._length]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and tuple(self) == tuple(other) and self._cut_points() == other._cut_points()

    def __repr__(self) -> str:
        return f"<History of {self._length} items>"

    def __hash__(self) -> int:
        return hash((self._length, self._sealed, self.size))

    def _cut_points(self) -> list[int]:
        return self._cuts[: self._sealed]
