"""Offsets that should be committed soon, collected from another thread; the latest wins. Knows no Kafka client."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

Offsets = Mapping[tuple[str, int], int]


class Hints:
    """Next offsets by (bare topic, partition) for the present generation; what belongs to another one is forgotten."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._generation = 0
        self._offsets: dict[tuple[str, int], int] = {}

    def begin(self, generation: int) -> None:
        """A new generation: hints of the last one are void, only hints of this one are taken from now on."""
        with self._lock:
            self._generation = generation
            self._offsets = {}

    def add(self, generation: int, offsets: Offsets) -> None:
        """Take hints; any thread. Nothing happens if the generation is not the present one."""
        with self._lock:
            if generation == self._generation:
                self._offsets.update(offsets)

    def take(self) -> dict[tuple[str, int], int]:
        """All hints so far; they are gone from here."""
        with self._lock:
            offsets, self._offsets = self._offsets, {}
            return offsets

    def back(self, generation: int, offsets: Offsets) -> None:
        """These could not be committed yet; newer hints win over them."""
        with self._lock:
            if generation == self._generation:
                self._offsets = {**offsets, **self._offsets}
