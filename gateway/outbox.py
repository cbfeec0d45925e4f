"""What waits to be sent to one connection: bounded by bytes, deltas joined while they wait. Knows no socket."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import orjson

from gateway.event import Event

_OVERHEAD_BYTES = 120
_MAX_JOINED_CHARS = 65_536
_ALWAYS = 3  # frames that may wait, whatever they take: else what is larger than the queue never gets there


class _Item:
    """A frame that waits: its JSON, and of a delta the texts that were joined to it."""

    __slots__ = ("bytes", "chars", "event", "raw", "texts")

    def __init__(self, raw: str, event: Event | None) -> None:
        self.raw = raw
        self.event = event
        self.texts: list[str] | None = None
        self.chars = 0
        self.bytes = _bytes(raw) + _OVERHEAD_BYTES

    def joins(self, event: Event) -> bool:
        last = self.event
        return (
            last is not None
            and last.type == event.type
            and last.own
            and event.own
            and last.message == event.message
            and last.attempt == event.attempt
            and self.chars < _MAX_JOINED_CHARS
        )

    def join(self, event: Event) -> int:
        """How many bytes it grew by."""
        if self.texts is None:
            self.texts = [self.event.text if self.event else ""]
        grown = _bytes(event.text)
        self.texts.append(event.text)
        self.chars += len(event.text)
        self.bytes += grown
        self.event = event
        return grown

    def json(self) -> str:
        """The frame's JSON; joined deltas have the seq and time of the last one in them."""
        if self.texts is None or self.event is None:
            return self.raw
        fields = orjson.loads(self.event.raw)
        fields["text"] = "".join(self.texts)
        return orjson.dumps(fields).decode()


class Outbox:
    """One connection's queue. `put` never waits; over `max_bytes` the queue is dropped and `on_overflow` called, but
    for the first three frames in it: each has bounds of its own."""

    def __init__(self, max_bytes: int, on_overflow: Callable[[], None]) -> None:
        self._max_bytes = max_bytes
        self._on_overflow = on_overflow
        self._items: deque[_Item] = deque()
        self._deltas: dict[tuple[str, str], _Item] = {}
        self._wake: asyncio.Future[None] | None = None
        self.bytes = 0
        self.joined = 0
        self.overflowed = False
        self.closed = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, event: Event) -> None:
        """Queue a frame; a delta is joined to the turn's last waiting frame if that is a delta of the same message."""
        if self.closed:
            return
        turn = (event.session, event.turn)
        if not event.is_delta:
            self._deltas.pop(turn, None)
            self._push(_Item(event.raw, event))
            return
        waiting = self._deltas.get(turn)
        if waiting is not None and waiting.joins(event):
            self.joined += 1
            self._grow(waiting.join(event))
            return
        item = self._deltas[turn] = _Item(event.raw, event)
        self._push(item)

    def say(self, raw: str, event: Event | None = None) -> None:
        """Queue the JSON of an answer as it is; `event`: the frame that it is, if it is one of a turn."""
        if not self.closed:
            self._push(_Item(raw, event))

    async def take(self) -> tuple[str, Event | None] | None:
        """The next frame's JSON and its event; waits. None: closed, and nothing is left."""
        while not self._items:
            if self.closed:
                return None
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        item = self._items.popleft()
        event = item.event
        if event is not None and self._deltas.get((event.session, event.turn)) is item:
            del self._deltas[(event.session, event.turn)]
        raw = item.json()
        self.bytes -= item.bytes
        return raw, event

    def close(self) -> None:
        """Nothing more is queued; what waits may still be taken."""
        self.closed = True
        self._notify()

    def _push(self, item: _Item) -> None:
        self._items.append(item)
        self._grow(item.bytes)

    def _grow(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self._max_bytes and len(self._items) > _ALWAYS:
            self.overflowed = True
            self._items.clear()
            self._deltas.clear()
            self.bytes = 0
            self.close()
            self._on_overflow()
        else:
            self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


def _bytes(text: str) -> int:
    """Bytes that a string takes in memory, at most."""
    return len(text) if text.isascii() else 4 * len(text)
