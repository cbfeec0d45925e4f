"""What waits behind a session's full mailbox: records as they were read, decoded again when there is room. No I/O.

To the session's decisions a turn that waits here has not arrived yet. Its offset stays unmarked all the while, so the
watermark stands before it, and a crash or a new owner finds it again.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from schemas.codec import decode_turn
from schemas.limits import Limits
from workers.effects import Mail, Trigger
from workers.partition import TURNS

_OVERHEAD_BYTES = 800


class _Waiting(NamedTuple):
    """A turn without its content."""

    trigger: Trigger
    turn: str
    digest: str
    deadline_ms: int
    bytes: int


class Backlog:
    """The FIFO of one session. `bytes`: what it takes, about."""

    __slots__ = ("_limits", "_waiting", "bytes")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: deque[_Waiting] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def holds(self, turn: str) -> bool:
        """Whether the turn waits here. O(n)."""
        return any(waiting.turn == turn for waiting in self._waiting)

    def put(self, mail: Mail, trigger: Trigger) -> None:
        """Keep the record; what was decoded of it is dropped."""
        size = _size(trigger.record)
        self._waiting.append(_Waiting(trigger, mail.id, mail.digest, mail.deadline_ms, size))
        self.bytes += size

    def take(self) -> tuple[Mail, Trigger]:
        """The oldest, decoded as the first time."""
        waiting = self._waiting.popleft()
        self.bytes -= waiting.bytes
        record = decode_turn(waiting.trigger.record, TURNS, self._limits)
        return Mail(record, waiting.digest, waiting.deadline_ms), waiting.trigger


def _size(record: object) -> int:
    key, value = getattr(record, "key", None), getattr(record, "value", None)
    headers = getattr(record, "headers", ())
    return _OVERHEAD_BYTES + len(key or b"") + len(value or b"") + sum(len(name) + len(it) for name, it in headers)
