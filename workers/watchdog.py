"""Watches the worker's loop from a thread of its own. Knows no turn but by its names, no journal, no broker's client.

A loop that an agent blocks beats no more. Heartbeats go on in the consumer's thread, so the group would keep a worker
that does nothing. In order: (1) after `warn_s` the turn and the stack are logged and counted, once; (2) after `end_s`
the group is left, so that others take over at once; (3) the process ends, before it could have been replaced: whatever
held the loop writes nothing any more. Its turn counts as tried; a supervisor starts the next process.

Only time in which the process ran counts: one that was stopped (SIGSTOP) is no blocked loop.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from schemas.settings import KafkaSettings, WorkerSettings
from workers.at_work import at_work

BLOCKED = 3
"""Exit code of a worker whose loop stayed blocked."""
_log = logging.getLogger("fleet.worker")
_BEAT_S = 0.25


@dataclass(frozen=True, slots=True)
class Limits:
    """In seconds: `warn_s` and `end_s` as in the module; `grace_s`: what logging and leaving may take after that."""

    warn_s: float
    end_s: float
    grace_s: float

    @classmethod
    def of(cls, worker: WorkerSettings, kafka: KafkaSettings) -> Limits:
        """The end and its grace lie within the session timeout."""
        timeout_s = kafka.kafka_session_timeout_ms / 1_000
        end_s = timeout_s * worker.worker_stall_share
        return cls(min(worker.worker_stall_warn_s, end_s), end_s, timeout_s - end_s)

    @property
    def beat_s(self) -> float:
        return min(_BEAT_S, self.end_s / 10)


class Watchdog:
    """`leave`: leaves the group from any thread within so many seconds; `count`: a loop was blocked beyond `warn_s`."""

    def __init__(
        self,
        limits: Limits,
        *,
        leave: Callable[[float], None],
        count: Callable[[], None],
        clock_s: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = time.process_time,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._limits = limits
        self._leave = leave
        self._count = count
        self._clock_s = clock_s
        self._cpu_s = cpu_s
        self._end = end
        self._beat_s = self._looked_s = clock_s()
        self._looked_cpu_s = cpu_s()
        self._absent_s = 0.0
        self._known_s = self._beat_s
        self._warned_s = 0.0
        self._stopped = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ident = 0
        self._cpu_limit_s = 0.0

    def start(self) -> None:
        """Watch the running loop. The kernel ends us as well where no thread of ours can run any more."""
        self.attach()
        faulthandler.register(signal.SIGPROF, all_threads=True, chain=True)
        # Between two beats all cores together may burn so much, and it is no hang.
        self._cpu_limit_s = max(self._limits.end_s, 2 * self._limits.beat_s * (os.cpu_count() or 1))
        self.beat()
        self._again()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def attach(self) -> None:
        """The running loop, in this thread, is the one to tell of."""
        self._loop, self._ident = asyncio.get_running_loop(), threading.get_ident()

    def stop(self) -> None:
        """Watch no more; on the loop."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._cpu_limit_s:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def beat(self) -> None:
        """The loop goes on."""
        self._beat_s = self._clock_s()
        if self._cpu_limit_s:
            # Code that never gives the interpreter's lock back (a regular expression, say) lets no thread of ours run.
            # CPU time, for it stands still while the process is stopped. At the signal the stacks go to stderr.
            signal.setitimer(signal.ITIMER_PROF, self._cpu_limit_s)

    def look(self) -> None:
        """How long has the loop been blocked? In the thread, every `beat_s`."""
        stalled_s = self._stalled_s()
        if stalled_s >= self._limits.end_s:
            self._fence(stalled_s)
        elif stalled_s >= self._limits.warn_s and not self._warned_s:
            self._warned_s = stalled_s
            self._count()
            self._say(logging.ERROR, f"the loop has been blocked for {stalled_s:.1f} s", **self._seen())

    def _stalled_s(self) -> float:
        now_s, cpu_s, beat_s = self._clock_s(), self._cpu_s(), self._beat_s
        elapsed_s, burned_s = now_s - self._looked_s, cpu_s - self._looked_cpu_s
        self._looked_s, self._looked_cpu_s = now_s, cpu_s
        if beat_s != self._known_s:
            if self._warned_s:
                self._say(logging.WARNING, f"the loop goes on after {beat_s - self._known_s - self._absent_s:.1f} s")
            self._known_s, self._absent_s, self._warned_s = beat_s, 0.0, 0.0
        # A thread that overslept either could not run, for the process was stopped, or was not let run, for code
        # burned CPU and kept the interpreter's lock: that counts.
        self._absent_s += max(0.0, elapsed_s - max(2 * self._limits.beat_s, burned_s))
        return now_s - beat_s - self._absent_s

    def _fence(self, stalled_s: float) -> None:
        why = (
            f"the loop has been blocked for {stalled_s:.1f} s: this worker leaves the group and ends, "
            "before it could be replaced; its turns go on elsewhere, the one that blocked counts as tried"
        )
        self._say(logging.CRITICAL, why, **self._seen())
        self._leave(self._limits.grace_s / 2)
        self._end(BLOCKED)

    def _say(self, level: int, text: str, **extra: object) -> None:
        """Log, in a thread of its own: it may be the log that blocks the loop."""
        saying = threading.Thread(target=lambda: _log.log(level, text, extra=extra), name="watchdog log", daemon=True)
        saying.start()
        saying.join(self._limits.grace_s / 4)

    def _seen(self) -> dict[str, object]:
        """Who is at work, and where."""
        frame = sys._current_frames().get(self._ident)
        seen: dict[str, object] = {"stack": "".join(traceback.format_stack(frame)) if frame is not None else ""}
        task = asyncio.current_task(self._loop) if self._loop is not None else None
        if task is not None:
            seen["task"] = task.get_name()
            if (turn := at_work(task)) is not None:
                seen.update(turn._asdict())
        return seen

    def _watch(self) -> None:
        while not self._stopped.wait(self._limits.beat_s):
            self.look()

    def _again(self) -> None:
        assert self._loop is not None
        self._timer = self._loop.call_later(self._limits.beat_s, self._beat_again)

    def _beat_again(self) -> None:
        self.beat()
        self._again()
