"""Splits a stream of bytes into the data of server-sent events. Knows no network and not what the data says."""

from __future__ import annotations

MAX_EVENT_BYTES = 8 * 1024 * 1024


class EventTooLarge(Exception):
    """An event did not end within MAX_EVENT_BYTES."""


class Events:
    """Feed it bytes as they come; it gives the data of each event that is whole.

    Takes LF, CRLF and CR, comments, data in several lines, fields that nobody needs, and a mark of the byte order.
    """

    __slots__ = ("_rest", "_started")

    def __init__(self) -> None:
        self._rest = b""
        self._started = False

    def feed(self, data: bytes) -> list[bytes]:
        """The data of every event that ends in here. Raises EventTooLarge."""
        data = self._plain(self._rest + data if self._rest else data)
        if b"\n\n" not in data:
            self._keep(data)
            return []
        *whole, rest = data.split(b"\n\n")
        self._keep(rest)
        return [found for event in whole if (found := _data(event)) is not None]

    def end(self) -> list[bytes]:
        """The stream is over: what a last event without its blank line holds, or a body that is no event stream."""
        rest, self._rest = self._rest.replace(b"\r", b"\n").strip(b"\n"), b""
        if not rest:
            return []
        found = _data(rest)
        return [rest if found is None else found]

    def _keep(self, rest: bytes) -> None:
        if len(rest) > MAX_EVENT_BYTES:
            raise EventTooLarge(f"an event of more than {MAX_EVENT_BYTES} bytes")
        self._rest = rest

    def _plain(self, data: bytes) -> bytes:
        """One kind of line end. A CR at the very end waits: its LF may come with the next read."""
        if not self._started:
            if len(data) < 3 and b"\xef\xbb\xbf".startswith(data):
                return data
            self._started = True
            data = data.removeprefix(b"\xef\xbb\xbf")
        if b"\r" not in data:
            return data
        held = data.endswith(b"\r")
        lines = (data[:-1] if held else data).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return lines + b"\r" if held else lines


def _data(event: bytes) -> bytes | None:
    """The data of one event; None if it has none (a comment, an empty event)."""
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None
