"""Cuts what a server prints into lines, in linear time and bounded memory. Knows bytes, no message.

A line that is too long is thrown away as it comes; its beginning stays, so that whoever waits for it can be told.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

_CHUNK = 65_536
_HEAD_BYTES = 256
_MOST_TIMES = 16  # a line this many times too long has no end worth waiting for


class TooLong(NamedTuple):
    """What begins a line that was thrown away. `ended`: the stream can be read on."""

    head: bytes
    ended: bool


class Lines:
    """`next()`: a line without its end, TooLong, or None at the end of the stream. `line_bytes`: no less than a chunk,
    for what lies within one is taken."""

    def __init__(self, stream: asyncio.StreamReader, line_bytes: int) -> None:
        self._stream = stream
        self._most = line_bytes
        self._ready: list[bytes] = []  # whole lines, the next one last
        self._open: list[bytes] = []  # pieces of the line that is not whole yet
        self._bytes = 0

    async def next(self) -> bytes | TooLong | None:
        while not self._ready:
            chunk = await self._stream.read(_CHUNK)
            if not chunk:
                return None
            await asyncio.sleep(0)  # a read that finds something does not let others run
            first, *rest = chunk.split(b"\n")
            self._open.append(first)
            self._bytes += len(first)
            if self._bytes > self._most:
                return await self._skip(b"".join(self._open)[:_HEAD_BYTES], rest)
            if rest:
                self._close(rest)
        return self._ready.pop()

    def _close(self, rest: list[bytes]) -> None:
        """The open line is whole, and so are all of `rest` but the last, which is open now."""
        *whole, last = (b"".join(self._open), *rest)
        self._ready = whole[::-1]
        self._open, self._bytes = [last], len(last)

    async def _skip(self, head: bytes, rest: list[bytes]) -> TooLong:
        while not rest:
            if self._bytes > _MOST_TIMES * self._most:
                return TooLong(head, ended=False)
            chunk = await self._stream.read(_CHUNK)
            if not chunk:
                return TooLong(head, ended=False)
            first, *rest = chunk.split(b"\n")
            self._bytes += len(first)
        self._open, self._bytes = [], 0
        self._close(rest)
        self._ready = self._ready[:-1]  # the empty line that the thrown one left
        return TooLong(head, ended=True)
