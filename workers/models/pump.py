"""Gathers what a stream brings while its reader is away. For connections that cannot pause: those through a proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

_BUFFER_BYTES = 1024 * 1024


class Pump:
    """Reads `chunks` in a task of its own; `close` ends it. The same reader's side as a Wire."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._parts: list[bytes] = []
        self._bytes = 0
        self._over = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._task = asyncio.create_task(self._run(chunks), name="model stream through a proxy")

    async def read(self) -> bytes:
        """What has come since the last time; empty at the end. Raises what the stream raised."""
        while not self._parts and not self._over:
            self._changed.clear()
            await self._changed.wait()
        if not self._parts:
            self._task.result()
            return b""
        body = b"".join(self._parts)
        self._parts.clear()
        self._bytes = 0
        self._room.set()
        return body

    async def close(self) -> None:
        """End the task."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()

    async def _run(self, chunks: AsyncIterator[bytes]) -> None:
        try:
            async for chunk in chunks:
                self._parts.append(chunk)
                self._bytes += len(chunk)
                self._changed.set()
                if self._bytes > _BUFFER_BYTES:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._over = True
            self._changed.set()
