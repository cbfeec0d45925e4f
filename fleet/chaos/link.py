"""A TCP proxy before one server that can be cut, slowed, throttled and held, as bad networks are. Knows no protocol.

Held is half-open: nothing gets through, nothing is closed, and what was sent meanwhile arrives when it is mended, as
TCP does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

CHUNK = 65_536
SLOW_S = 0.2
THROTTLED = 8_192
"""Bytes a second that a throttled link lets through, each way."""


class Link:
    """`await start()`, then connect to `port`."""

    def __init__(self, name: str, host: str, target: int) -> None:
        self.name = name
        self.port = 0
        self.delay_s = 0.0
        self.bytes_per_s = 0
        self.busy = False
        self._host = host
        self._target = target
        self._refuses = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._free_s = {True: 0.0, False: 0.0}  # when this way is through with what it was given
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, self._host, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Reset every connection, and refuse new ones."""
        self._refuses = True
        for writer in tuple(self._writers):
            writer.transport.abort()

    def hold(self) -> None:
        """Let nothing through."""
        self._flows.clear()

    def slow(self) -> None:
        """Let everything through late."""
        self.delay_s = SLOW_S

    def throttle(self) -> None:
        """Let little through in a second, of all connections together."""
        self.bytes_per_s = THROTTLED

    def mend(self) -> None:
        """All is well again."""
        self._refuses = False
        self.delay_s, self.bytes_per_s = 0.0, 0
        self._flows.set()

    async def stop(self) -> None:
        """Close everything."""
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._serve(reader, writer)
        writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            return
        await self._flows.wait()
        there, back = await asyncio.open_connection(self._host, self._target)
        ours = {writer, back}
        self._writers |= ours
        ways = ((reader, back, True), (there, writer, False))
        pumps = [asyncio.create_task(self._pump(*way), name=self.name) for way in ways]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._writers -= ours
            back.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, inwards: bool) -> None:
        while data := await reader.read(CHUNK):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self.bytes_per_s:
                await self._turn_comes(inwards, len(data) / self.bytes_per_s)
            await self._flows.wait()
            writer.write(data)
            await writer.drain()

    async def _turn_comes(self, inwards: bool, takes_s: float) -> None:
        """All connections share the width of a way: each piece waits for those before it."""
        now_s = time.monotonic()
        self._free_s[inwards] = max(now_s, self._free_s[inwards]) + takes_s
        await asyncio.sleep(self._free_s[inwards] - now_s)


class Route:
    """Links that break together: from one process to all brokers, say. Everything that a link can suffer."""

    def __init__(self, name: str, links: Sequence[Link]) -> None:
        self.name = name
        self.links = tuple(links)

    @property
    def busy(self) -> bool:
        """Whether a fault has hold of one of them."""
        return any(link.busy for link in self.links)

    @busy.setter
    def busy(self, held: bool) -> None:
        for link in self.links:
            link.busy = held

    def cut(self) -> None:
        for link in self.links:
            link.cut()

    def hold(self) -> None:
        for link in self.links:
            link.hold()

    def slow(self) -> None:
        for link in self.links:
            link.slow()

    def throttle(self) -> None:
        for link in self.links:
            link.throttle()

    def mend(self) -> None:
        for link in self.links:
            link.mend()
