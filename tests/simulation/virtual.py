"""An event loop in virtual time, and processes on it that can be killed or frozen between two steps. Knows no product.

Nothing waits: when no callback is ready, time jumps to the next timer. Callbacks run in the order in which they became
ready, timers in the order (time, creation), so a run depends on nothing but what its callbacks do. Every callback
belongs to the process in whose context it was scheduled; what belongs to a dead one is dropped without any cleanup,
what belongs to a frozen one is kept until it wakes.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any

_PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)
EMPTY = contextvars.Context()


def current() -> Process | None:
    """The process whose callback runs now; None: nobody's (the broker, the store, the network, the test)."""
    return _PROCESS.get()


class Process:
    """What dies and freezes together. `context`: run or schedule with it to act as this process."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self.name = name
        self.dead = False
        self.frozen = False
        self.context = contextvars.Context()
        self.context.run(_PROCESS.set, self)
        self._loop = loop
        self._kept: list[asyncio.Handle] = []

    def kill(self) -> None:
        """From the next step on nothing of it runs, no `finally` either."""
        self.dead = True
        self._kept.clear()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.frozen = True

    def thaw(self) -> None:
        """SIGCONT: all that became ready meanwhile runs now, in order."""
        self.frozen = False
        kept, self._kept = self._kept, []
        self._loop.ready_again(kept)

    def keep(self, handle: asyncio.Handle) -> None:
        """A callback that became ready while this is frozen."""
        self._kept.append(handle)


class _Timer(asyncio.TimerHandle):
    """Timers of one moment keep the order in which they were made."""

    __slots__ = ("number",)

    def __init__(self, when: float, number: int, callback: Any, args: Any, loop: Any, context: Any) -> None:
        super().__init__(when, callback, args, loop, context)
        self.number = number

    def __lt__(self, other: Any) -> bool:
        return bool((self._when, self.number) < (other._when, other.number))  # type: ignore[attr-defined]


class _Task(asyncio.Task[Any]):
    """A task whose place in a set is the same in every run."""

    def __init__(self, coro: Any, *, number: int, **named: Any) -> None:
        self._number = number
        super().__init__(coro, **named)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class Stuck(Exception):
    """Nothing is ready and no timer is set: whoever is awaited will never answer."""


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module. `adopt` says whose callbacks the methods of an object are, whoever schedules them."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._soon: deque[asyncio.Handle] = deque()
        self._timers: list[_Timer] = []
        self._numbers = 0
        self._homes: dict[int, contextvars.Context] = {}
        self._adopted: list[object] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._over = False
        self.steps = 0
        self.set_task_factory(self._make_task)
        self.set_exception_handler(lambda _loop, _what: None)

    def adopt(self, thing: object, context: contextvars.Context) -> None:
        """Callbacks that are methods of `thing` run in `context` from now on."""
        self._homes[id(thing)] = context
        self._adopted.append(thing)  # else its id might become another's

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        home = self._homes.get(id(getattr(callback, "__self__", None)))
        handle = asyncio.Handle(callback, args, self, context if home is None else home)  # an empty one is false
        if not self._over:
            self._soon.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]
        home = self._homes.get(id(getattr(callback, "__self__", None)))
        self._numbers += 1
        timer = _Timer(max(when, self._now), self._numbers, callback, args, self, context if home is None else home)
        if not self._over:
            heapq.heappush(self._timers, timer)
        return timer

    def ready_again(self, handles: list[asyncio.Handle]) -> None:
        """Callbacks of a process that woke."""
        self._soon.extend(handles)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work` to its end, then stop everything that is left, where it stands."""
        asyncio.events._set_running_loop(self)
        try:
            task = self.create_task(work)
            while not task.done():
                self._step()
            return task.result()
        finally:
            self._bury()
            self.close()
            asyncio.events._set_running_loop(None)

    def _step(self) -> None:
        timers, soon = self._timers, self._soon
        if not soon:
            if not timers:
                raise Stuck("nothing is ready and no timer is set")
            self._now = max(self._now, timers[0].when())
        while timers and timers[0].when() <= self._now:
            soon.append(heapq.heappop(timers))
        for _ in range(len(soon)):
            self._run_one(soon.popleft())

    def _run_one(self, handle: Any) -> None:
        if handle._cancelled:
            return
        process = handle._context.get(_PROCESS)
        if process is not None:
            if process.dead:
                return
            if process.frozen:
                process.keep(handle)
                return
        self.steps += 1
        handle._run()

    def _make_task(self, _: Any, work: Any, context: Any = None, **named: Any) -> asyncio.Task[Any]:
        self._numbers += 1
        task = _Task(work, number=self._numbers, loop=self, context=context, **named)
        self._tasks.append(task)
        return task

    def _bury(self) -> None:
        """What still stands somewhere is closed while nothing can be scheduled any more."""
        self._over = True
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                _close(task.get_coro())
        self._tasks.clear()
        self._soon.clear()
        self._timers.clear()


def _close(work: Generator[Any, Any, Any] | Coroutine[Any, Any, Any] | Any) -> None:
    try:
        work.close()
    except BaseException:  # noqa: BLE001 (the code of a dead process: whatever it thinks of its end is of no interest)
        return


def as_nobody(call: Callable[..., Any], *args: Any) -> Any:
    """Call as the broker or the store, not as the process that asks."""
    return contextvars.Context().run(call, *args)
