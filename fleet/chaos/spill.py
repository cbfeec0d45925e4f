"""Evidence on disk, parted by record key, so that a check of any size needs the memory of one part. Knows no judgement.

A part is a file of marshalled lists of plain tuples, each behind its length; the first field of each tuple says what it
is.
"""

from __future__ import annotations

import marshal
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PARTS = 64
MOST_BYTES = 32 * 2**20
_OVERHEAD = 200
_LENGTH = struct.Struct(">Q")

Item = tuple[Any, ...]


class Spill:
    """Takes items in any order of keys, keeps the order within a key. `written`: bytes on disk so far."""

    def __init__(self, folder: Path, *, parts: int = PARTS, most_bytes: int = MOST_BYTES) -> None:
        self.written = 0
        self._folder = folder
        self._most_bytes = most_bytes
        self._waiting: list[list[Item]] = [[] for _ in range(parts)]
        self._bytes = 0

    def add(self, key: bytes, item: Item, size: int) -> None:
        """`size`: bytes of content in the item, about; all that waits is written when it grows too large."""
        waiting = self._waiting
        waiting[zlib.crc32(key) % len(waiting)].append(item)
        self._bytes += size + _OVERHEAD
        if self._bytes > self._most_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        for number, items in enumerate(self._waiting):
            if items:
                raw = marshal.dumps(items)
                with self._path(number).open("ab") as file:
                    self.written += file.write(_LENGTH.pack(len(raw)) + raw)
                items.clear()
        self._bytes = 0

    def parts(self) -> list[Path]:
        """The files; call `flush` first."""
        return [path for number in range(len(self._waiting)) if (path := self._path(number)).exists()]

    def _path(self, number: int) -> Path:
        return self._folder / f"part-{number:03}"


def items_of(path: Path) -> Iterator[Item]:
    """What a part holds, in the order in which it was added."""
    with path.open("rb") as file:
        while head := file.read(_LENGTH.size):  # from a file, marshal would read field by field
            (size,) = _LENGTH.unpack(head)
            found: list[Item] = marshal.loads(file.read(size))  # noqa: S302 (our own file, of this run)
            yield from found
