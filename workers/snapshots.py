"""Writes the snapshots of many sessions together: three commands for all that are due at once, not for each of them.

They are derived and disposable, so nobody waits for them, and a store that does not answer costs only the attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from journal.port import Saving, Snapshots, StoreUnavailable
from journal.state import State
from workers.archive import Archive

MOST = 32  # in one call: encoding them takes the loop some milliseconds


class SnapshotWriter:
    """One per worker. `spawn(work, name)` runs a task; `count(written)` hears how many were stored."""

    def __init__(
        self,
        snapshots: Snapshots,
        *,
        spawn: Callable[[Coroutine[Any, Any, None], str], None],
        count: Callable[[int], None],
    ) -> None:
        self._snapshots = snapshots
        self._spawn = spawn
        self._count = count
        self._due: list[tuple[str, State, Archive]] = []
        self._writing = False

    def add(self, key: str, state: State, archive: Archive) -> None:
        """Store `state` of session `key` soon: `archive.take` has said that it is due."""
        self._due.append((key, state, archive))
        if not self._writing:
            self._writing = True
            self._spawn(self._write(), "snapshots")

    async def _write(self) -> None:
        try:
            while self._due:
                some, self._due = self._due[:MOST], self._due[MOST:]
                await self._save([(archive, archive.begin_write(key, state)) for key, state, archive in some])
        finally:
            self._writing = False

    async def _save(self, some: list[tuple[Archive, Saving]]) -> None:
        try:
            await self._snapshots.save([saving for _, saving in some])
        except StoreUnavailable:
            for archive, _ in some:
                archive.unwritten()
            return
        for archive, saving in some:
            archive.written(saving)
        self._count(len(some))
