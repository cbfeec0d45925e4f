"""A TCP proxy before one server that can be cut, slowed and held: what a bad network does. Knows no protocol.

Held is half-open: nothing gets through, nothing is closed, and what was sent meanwhile arrives when it is mended, as
TCP does it.
"""

from __future__ import annotations

import asyncio
import contextlib

CHUNK = 65_536
SLOW_S = 0.2


class Link:
    """`await start()`, then connect to `port`."""

    def __init__(self, name: str, host: str, target: int) -> None:
        self.name = name
        self.port = 0
        self.delay_s = 0.0
        self.busy = False
        self._host = host
        self._target = target
        self._refuses = False
        self._flows = asyncio.Event()
        self._flows.set()
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

    def mend(self) -> None:
        """All is well again."""
        self._refuses = False
        self.delay_s = 0.0
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
        pumps = [asyncio.create_task(self._pump(*pair), name=self.name) for pair in ((reader, back), (there, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._writers -= ours
            back.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._flows.wait()
            writer.write(data)
            await writer.drain()
