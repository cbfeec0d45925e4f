"""Judges the parts of spilled evidence: here, or in processes of their own, one a core. Knows no evidence."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from typing import Any

from fleet.chaos.evidence import Marks
from fleet.chaos.finding import Verdict
from fleet.chaos.part import judge, ready
from fleet.chaos.spill import Spill

ALONE_BYTES = 64 * 2**20
"""Evidence below this is judged in this process: starting others would take longer."""
MOST_PROCESSES = 8


class Judges:
    """A context; its processes end with it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Judges:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def prepare(self, spill: Spill) -> None:
        """Start the processes beside what is still read, where what was read so far says that there is much of it: they
        take a second to import what they need."""
        if self._pool is None and spill.written >= ALONE_BYTES:
            cores = os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count() or 1
            workers = min(cores, MOST_PROCESSES)
            pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
            self._pool = self._stack.enter_context(pool)
            for _ in range(workers):
                pool.submit(ready)

    async def verdict(self, spill: Spill, marks: Marks) -> Verdict:
        """On all parts."""
        self.prepare(spill)
        whole, paths = Verdict(), spill.parts()
        if self._pool is None:
            for path in paths:
                whole.merge(judge(path, marks))
            return whole
        loop, pool = asyncio.get_running_loop(), self._pool
        waiting: list[asyncio.Future[Any]] = [loop.run_in_executor(pool, judge, path, marks) for path in paths]
        for verdict in waiting:
            whole.merge(await verdict)
        return whole
