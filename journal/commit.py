"""Group commit: appends of many sessions go together, and every one is answered for certain. Knows no entry's meaning.

A command holds up to `max_rows` rows of different sessions; at most `in_flight` commands are out. What the store leaves
open is settled here, by the nonce: a caller hears APPLIED, COLLIDED or KNOWN, never "perhaps".
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import islice

from journal.port import Journal, Row, StoreUnavailable, Verdict

Done = Callable[[Verdict], None]
MAX_ROW = 16_000_000  # characters; more than any turn can write (its steps are bounded), and never one document
_MAX_COMMAND = 8_000_000  # characters; a message holds 48 MB
_FIRST_PAUSE_S = 0.05
_LAST_PAUSE_S = 1.0
_READS = 32


_Item = tuple[Row, Done, int]  # with the row's size; a plain tuple, for there is one for every append


class GroupCommit:
    """`append` rows; `done` is called once for each with its verdict, in the loop, unless it was withdrawn.

    Nothing here is ever cancelled inside a call of the store. `sizes` hears the number of rows of each command.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        max_rows: int = 1_000,
        in_flight: int = 2,
        sizes: Callable[[int], None] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._journal = journal
        self._max_rows = max_rows
        self._free = in_flight
        self._slots = in_flight
        self._sizes = sizes
        self._sleep = sleep
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()  # whoever appends is no part of what carries the rows
        self._pending: dict[str, _Item] = {}
        self._flying: dict[str, _Item] = {}
        self._parting: list[_Item] = []
        self._scheduled = False
        self._stopping = asyncio.Event()
        self._idle: list[asyncio.Future[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: asyncio.Future[None] = self._loop.create_future()

    @property
    def in_flight(self) -> int:
        """Commands that are out now."""
        return self._slots - self._free

    @property
    def waiting(self) -> int:
        """Rows that no command holds yet."""
        return len(self._pending)

    def append(self, row: Row, done: Done) -> int:
        """Queue `row`; its size. A session has at most one append in flight: a second one is a programming error."""
        s = row.s
        if s in self._pending or s in self._flying:
            raise RuntimeError(f"{s} has an append in flight; version {row.v} must wait for its verdict")
        size = row.size
        if size > MAX_ROW:
            raise ValueError(f"{s} version {row.v}: {size} characters do not fit into one entry")
        self._pending[s] = (row, done, size)
        if not self._scheduled and self._free:
            self._scheduled = True
            self._loop.call_soon(self._pump, context=self._context)
        return size

    def send_off(self, row: Row) -> None:
        """Insert `row` with the next command, once. Nobody hears what became of it, and its session may append again at
        once: whoever comes later meets it, or is met, as another writer's."""
        self._parting.append((row, _unheard, row.size))
        if not self._scheduled and self._free:
            self._scheduled = True
            self._loop.call_soon(self._pump, context=self._context)

    def withdraw(self, s: str) -> None:
        """Forget the append of `s`: it is not sent (again), and a verdict that comes later is not delivered."""
        self._pending.pop(s, None)
        self._flying.pop(s, None)
        self._settled()

    async def drain(self) -> None:
        """Wait until every append has its verdict. Has no limit of its own; raises what `broken` raises."""
        while self._pending or self._flying or self._parting or self.in_flight:
            if self._broken.done():
                await self.broken()
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._idle.append(waiter)
            await waiter

    async def stop(self) -> None:
        """Send nothing more and wait for the commands that are out. Appends without a verdict stay without one."""
        self._stopping.set()
        self._parting.clear()
        self._pending.clear()
        self._flying.clear()
        self._settled()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def broken(self) -> None:
        """Raises what broke the group commit (a bug, or a store that refuses the call), as soon as something does."""
        await asyncio.shield(self._broken)

    def _pump(self) -> None:
        self._scheduled = False
        while self._free and (self._pending or self._parting) and not self._stopping.is_set():
            self._free -= 1
            task = self._loop.create_task(self._carry(self._take()), name="group-commit")
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _take(self) -> list[_Item]:
        """The oldest rows that go into one command. Those that are sent off go alone: they may meet their session's."""
        pending = self._pending
        if self._parting:
            parting, self._parting = self._parting[: self._max_rows], self._parting[self._max_rows :]
            return parting
        items = list(islice(pending.values(), self._max_rows))
        total = 0
        for count, (_, _, size) in enumerate(items):
            total += size
            if total > _MAX_COMMAND and count:
                items = items[:count]
                break
        if len(items) == len(pending):
            self._flying.update(pending)
            pending.clear()
        else:
            for item in items:
                s = item[0].s
                self._flying[s] = pending.pop(s)
        return items

    async def _carry(self, items: list[_Item]) -> None:
        """1. send until answered 2. free the slot 3. deliver 4. settle what met an existing key."""
        try:
            items, verdicts = await self._send(items)
        finally:
            self._free += 1
            self._pump()
        doubtful = self._deliver_applied(items, verdicts)
        if doubtful:
            await self._settle(doubtful)
        if self._idle:
            self._settled()

    def _deliver_applied(self, items: Sequence[_Item], verdicts: Sequence[Verdict]) -> list[tuple[_Item, Verdict]]:
        """Deliver what is certain; the rest. (`_deliver` written out: this loop runs for every append.)"""
        flying, applied, doubtful = self._flying, Verdict.APPLIED, []
        for item, verdict in zip(items, verdicts, strict=True):
            if verdict is not applied:
                doubtful.append((item, verdict))
                continue
            row, done, _ = item
            if flying.get(row.s) is item:
                del flying[row.s]
                try:
                    done(verdict)
                except Exception as error:  # noqa: BLE001  (a caller's bug must not keep others from their verdicts)
                    self._break(error)
        if self._idle:
            self._settled()
        return doubtful

    async def _send(self, items: list[_Item]) -> tuple[list[_Item], list[Verdict]]:
        """Insert; no answer: the same rows again, without those that were withdrawn, for as long as it takes."""
        pause_s = _FIRST_PAUSE_S
        while items:
            if self._sizes is not None:
                self._sizes(len(items))
            try:
                return items, await self._journal.insert([item[0] for item in items])
            except StoreUnavailable:
                await self._pause(pause_s)
                pause_s = min(pause_s * 2, _LAST_PAUSE_S)
                items = [item for item in items if self._wanted(item)]
        return [], []

    async def _settle(self, doubtful: Sequence[tuple[_Item, Verdict]]) -> None:
        """E11000 says that a key exists, not whose it is: a majority read of (session, version) says that. Nothing
        found: not replicated yet, or being rolled back; the same row goes again."""
        again: list[_Item] = []
        for start in range(0, len(doubtful), _READS):
            some = doubtful[start : start + _READS]
            found = await asyncio.gather(*(self._judge(item, verdict) for item, verdict in some))
            for (item, _), verdict in zip(some, found, strict=True):
                if verdict is None:
                    again.append(item)
                else:
                    self._deliver(item, verdict)
        if again:
            await self._pause(_FIRST_PAUSE_S)
            self._requeue(again)

    async def _judge(self, item: _Item, verdict: Verdict) -> Verdict | None:
        pause_s = _FIRST_PAUSE_S
        while self._wanted(item):
            try:
                return await self._look(item[0], verdict)
            except StoreUnavailable:
                await self._pause(pause_s)
                pause_s = min(pause_s * 2, _LAST_PAUSE_S)
        return None

    async def _look(self, row: Row, verdict: Verdict) -> Verdict | None:
        found = await self._journal.row(row.s, row.v)
        if found is not None:
            return Verdict.APPLIED if found.nonce == row.nonce else Verdict.COLLIDED
        if verdict is Verdict.KNOWN and row.turn is not None:
            return Verdict.KNOWN if await self._journal.introduced(row.s, row.turn) is not None else None
        return None

    def _requeue(self, items: Sequence[_Item]) -> None:
        for item in items:
            if self._wanted(item):
                del self._flying[item[0].s]
                self._pending[item[0].s] = item
        self._pump()

    def _wanted(self, item: _Item) -> bool:
        return self._flying.get(item[0].s) is item

    def _deliver(self, item: _Item, verdict: Verdict) -> None:
        if self._flying.get(item[0].s) is not item:
            return
        del self._flying[item[0].s]
        try:
            item[1](verdict)
        except Exception as error:  # noqa: BLE001  (a caller's bug must not keep others from their verdicts)
            self._break(error)
        self._settled()

    def _settled(self) -> None:
        if (self._pending or self._flying or self._parting or self.in_flight) and not self._broken.done():
            return
        for waiter in self._idle:
            if not waiter.done():
                waiter.set_result(None)
        self._idle.clear()

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not longer than until `stop`."""
        if self._stopping.is_set():
            return
        stop = self._loop.create_task(self._stopping.wait())
        sleep = asyncio.ensure_future(self._sleep(seconds))
        try:
            await asyncio.wait((stop, sleep), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stop, sleep):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            self._break(RuntimeError("a group commit was cancelled: its rows are ambiguous"))
        elif (error := task.exception()) is not None:
            self._break(error)

    def _break(self, error: BaseException) -> None:
        if not self._broken.done():
            self._broken.set_exception(error)
            self._broken.exception()  # read, so that nobody is told off when nothing waits for it
            self._settled()


def _unheard(verdict: Verdict) -> None:
    """Nobody waits for it."""
