"""Timers: found when due, each handed to its session once, deleted when its trigger is marked. Decides nothing.

A timer that is not deleted because its partition went away is found by the next owner.
"""

from __future__ import annotations

from typing import NamedTuple

from journal.port import StoreUnavailable, Timer
from workers.effects import Trigger
from workers.system import ActorSystem

LOOK_S = 2.0
_LIMIT = 256


class _Due(NamedTuple):
    """In place of a record: a timer has no place on a topic."""

    topic: str = "timers"
    partition: int = 0
    offset: int = 0


class Alarms:
    """Looks for due timers of the partitions that its worker owns."""

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._handed: dict[tuple[str, str, str], tuple[int, int]] = {}

    async def look(self) -> None:
        """Once: hand over what is due and not yet handed over in this assignment."""
        system = self._system
        owned = {number: (number, id(partition)) for number, partition in system.partitions.items()}
        self._handed = {key: place for key, place in self._handed.items() if owned.get(place[0]) == place}
        if not owned:
            return
        try:
            due = await system.store.timers.due(system.clock_ms(), tuple(owned), _LIMIT + len(self._handed))
        except StoreUnavailable:
            return
        for timer in due:
            self._hand_over(timer)

    def _hand_over(self, timer: Timer) -> None:
        system = self._system
        partition = system.partitions.get(timer.partition)
        key = (timer.s, timer.turn, timer.call)
        if partition is None or key in self._handed:
            return
        self._handed[key] = (partition.number, id(partition))
        system.metrics.count("timers")
        trigger = Trigger(_Due(partition=partition.number), None, lambda _: self._done(timer))
        system.actor(timer.s, partition).wake(timer, trigger)

    def _done(self, timer: Timer) -> None:
        self._system.spawn(self._disarm(timer), f"disarm {timer.s}")

    async def _disarm(self, timer: Timer) -> None:
        """A timer that cannot be deleted now is found due again, and does nothing the second time."""
        try:
            await self._system.store.timers.disarm(timer)
        except StoreUnavailable:
            pass
        self._handed.pop((timer.s, timer.turn, timer.call), None)
