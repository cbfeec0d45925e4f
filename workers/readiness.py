"""Whether a worker takes work now, and if not why. Asks the broker and the store now and then; decides nothing else."""

from __future__ import annotations

import asyncio

from broker.port import Admin, BrokerUnavailable
from broker.topics import TopicsMismatch, require_topics
from schemas.topics import Topics
from workers.worker import Worker

_PAUSE_S = 3.0


class Readiness:
    """Ready: partitions assigned, MongoDB writable, topics right, not draining."""

    def __init__(self, worker: Worker, admin: Admin, topics: Topics) -> None:
        self._worker = worker
        self._admin = admin
        self._topics = topics
        self._broker = ""

    def reasons(self) -> dict[str, str]:
        """Why not, by part; empty: ready."""
        found = {}
        if self._worker.stopping.is_set():
            found["worker"] = "draining"
        if not self._worker.assigned_once:
            found["group"] = "no partitions assigned yet"
        if not self._worker.writable:
            found["mongodb"] = "not writable"
        if self._broker:
            found["kafka"] = self._broker
        return found

    async def watch(self, stop: asyncio.Event) -> None:
        """Look at the broker until `stop`."""
        while not stop.is_set():
            await self.look()
            try:
                await asyncio.wait_for(stop.wait(), _PAUSE_S)
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Ask once."""
        try:
            await require_topics(self._admin, self._topics)
            self._broker = ""
        except (BrokerUnavailable, TopicsMismatch) as error:
            self._broker = str(error)
