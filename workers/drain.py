"""A worker's leaving, in order and in time. Knows no signals, no broker client and no agent.

In order: (1) no new turns, polling goes on paused; (2) running turns may end for `soft_s`; (3) what still runs is
handed over at its next step boundary; (4) when time is short, or when told to hurry, at once; (5) entries are flushed,
then the frames that follow from them; (6) offsets are committed and the group is left; (7) the rest ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from broker.port import Publisher
from workers.system import ActorSystem

_log = logging.getLogger("fleet.worker")
_PARTING_S = 5.0  # of the grace period is kept for (5) to (7)
_FLUSH = 0.6  # of that is for (5): who does not answer then will not
_LAST = 0.05  # of the grace period is left to the process for its own end


class Drain:
    """`grace_s`: all of it takes no longer, whoever does not answer; `hurried`: running turns are not waited for.

    Whatever is not flushed is not committed either: the next owner finds it in the journal.
    """

    def __init__(self, system: ActorSystem, *, hurried: asyncio.Event, soft_s: float, grace_s: float) -> None:
        self._system = system
        self._hurried = hurried
        self._parting_s = min(_PARTING_S, grace_s / 2)
        self._began_s = system.clock_s()
        self._end_s = self._began_s + grace_s * (1 - _LAST)
        self._hard_s = self._end_s - self._parting_s
        self._soft_s = min(self._began_s + soft_s, self._hard_s)

    async def hand_over(self) -> None:
        """(1) to (4): when this returns, nothing runs here but what is being written."""
        slots = self._system.slots
        slots.close()
        self._system.apply_pauses()
        if not await self._all_free(self._soft_s):
            _log.warning("%d turns still run: each is handed over after its step", slots.count - slots.free)
        self._hand_over(at_once=False)
        if not await self._all_free(self._hard_s):
            _log.warning("%d turns are handed over in the middle of a step", slots.count - slots.free)
            self._hand_over(at_once=True)
        self._end_s = min(self._end_s, self._system.clock_s() + self._parting_s)

    async def flush(self, publisher: Publisher) -> None:
        """(5), as far as store and broker answer."""
        system = self._system

        async def flushed() -> None:
            await system.slots.all_free()
            await system.commit.drain()
            system.outbox.flush()
            await publisher.flush()

        await self._within(self._end_s - self._parting_s * (1 - _FLUSH), "entries and frames", flushed())

    async def leave(self, **steps: Callable[[], Awaitable[None]]) -> None:
        """(6) and (7): each step is tried, whatever became of the one before."""
        for name, step in steps.items():
            await self._within(self._end_s, name, step())
        took_s = self._system.clock_s() - self._began_s
        _log.info("drained", extra={"handed_over": self._system.handed_over, "took_s": round(took_s, 3)})

    def _hand_over(self, *, at_once: bool) -> None:
        self._system.leaving = True
        for partition in list(self._system.partitions.values()):
            for actor in list(partition.actors.values()):
                if self._system.slots.has(actor.key):
                    actor.hand_over(at_once=at_once)

    async def _all_free(self, until_s: float) -> bool:
        """Wait until no turn runs, it is late, or there is a hurry; whether no turn runs."""
        free = asyncio.create_task(self._system.slots.all_free(), name="all slots free")
        hurried = asyncio.create_task(self._hurried.wait(), name="hurried")
        left_s = max(until_s - self._system.clock_s(), 0)
        await asyncio.wait((free, hurried), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        done = free.done()
        free.cancel()
        hurried.cancel()
        return done

    async def _within(self, until_s: float, what: str, work: Awaitable[None]) -> None:
        """Do it, but not for longer; nothing that goes wrong here keeps the worker from leaving."""
        try:
            async with asyncio.timeout(max(until_s - self._system.clock_s(), 0)):
                await work
        except TimeoutError:
            _log.warning("%s: no answer in time; the next owner finds in the journal what is missing", what)
        except Exception:  # noqa: BLE001 (logged; the steps after it are tried all the same)
            _log.exception("%s could not be ended properly", what)
