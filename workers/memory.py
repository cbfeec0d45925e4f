"""Keeps a worker within its memory: warm sessions go first, then no more turns are read. Knows no turn and no session.

| of the budget | what happens |
| 0.8 | warm sessions at rest are dropped and none is kept, until 0.7 |
| 0.9 | all partitions of turns are paused, until 0.8; polling, control ops and running turns go on |

A worker that is over it with nothing left to do holds memory that no turn needs: it ends and is started anew.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.system import ActorSystem

_MIB = 1_048_576
_WARM, _EVICT, _RESUME, _PAUSE = 0.7, 0.8, 0.8, 0.9
LOOK_S = 0.1
_TRIM_LOOKS, _IDLE_LOOKS = 10, 100
_log = logging.getLogger("fleet.worker")


class BudgetTooSmall(Exception):
    """The text is one sentence: what was seen and what to do."""


def resident_bytes() -> int:
    """Memory of this process: what is resident now on Linux, elsewhere the most that ever was."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1_024


def give_back(thorough: bool) -> None:
    """Give free memory back to the system where the C library can; `thorough`: look for more first, which is slow."""
    if thorough:
        gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class MemoryBudget:
    """`look` every `LOOK_S`, `received` after each batch. `budget_mib` 0: no limit, it only reads. `read`, `free`: how
    much there is, and to have less of it; `fatal`: told when the worker is to be started anew.
    """

    def __init__(
        self,
        system: ActorSystem,
        budget_mib: int,
        fatal: Callable[[BaseException], None],
        *,
        read: Callable[[], int] = resident_bytes,
        free: Callable[[bool], None] = give_back,
    ) -> None:
        self._system = system
        self._budget = budget_mib * _MIB
        self._fatal = fatal
        self._read = read
        self._free = free
        self._warm_bytes = system.pool.max_bytes
        self._looks = self._idle_looks = 0
        self._cold = False

    def require_room(self) -> None:
        """Raises BudgetTooSmall where a worker that has done nothing would have to pause at once."""
        used = self._read()
        if self._budget and used >= _EVICT * self._budget:
            raise BudgetTooSmall(
                f"FLEET_WORKER_MEMORY_MIB={self._budget // _MIB} is too little: "
                f"a worker at rest takes {used // _MIB} MiB here, give it twice that or 0 for no limit"
            )

    async def look(self) -> None:
        """For a timer."""
        self.look_now()

    def received(self) -> None:
        """A batch of records was taken in: where memory is short already, the next one is too much."""
        if self._budget:
            self.look_now()

    def look_now(self) -> None:
        """Read, evict, pause, resume."""
        used = self._system.memory_bytes = self._read()
        if not self._budget:
            return
        if used >= _EVICT * self._budget:
            used = self._system.memory_bytes = self._chill(used)
        elif self._cold and used < _WARM * self._budget:
            self._cold, self._system.pool.max_bytes = False, self._warm_bytes
        self._pause_or_resume(used)

    def _chill(self, used: int) -> int:
        """Warm sessions go first. What is left of `used`."""
        if self._cold:
            return used
        _log.warning("%d of %d MiB used: warm sessions are dropped", used // _MIB, self._budget // _MIB)
        self._cold, self._system.pool.max_bytes = True, 0
        self._system.pool.evict()
        self._free(True)
        return self._read()

    def _pause_or_resume(self, used: int) -> None:
        system = self._system
        if system.short_of_memory:
            if used < _RESUME * self._budget:
                self._set(False)
            else:
                self._wait(used)
        elif used >= _PAUSE * self._budget:
            _log.warning("%d of %d MiB used: no more turns are read", used // _MIB, self._budget // _MIB)
            system.metrics.count("memory_pauses")
            self._set(True)

    def _set(self, short: bool) -> None:
        self._looks = self._idle_looks = 0
        self._system.short_of_memory = short
        self._system.apply_pauses()

    def _wait(self, used: int) -> None:
        """What is here is worked off. What was freed goes back to the system; if that is not enough, start anew."""
        system = self._system
        idle = not system.waiting and system.slots.free == system.slots.count
        self._looks += 1
        self._idle_looks = self._idle_looks + 1 if idle else 0
        if self._looks % _TRIM_LOOKS == 0:
            self._free(idle)
        if self._idle_looks == _IDLE_LOOKS:
            text = f"{used // _MIB} MiB used with nothing to do: the worker ends, to be started anew"
            _log.critical(text)
            self._fatal(MemoryError(text))
