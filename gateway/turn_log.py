"""The recent frames of one turn, and what its answer was at each of them. Knows nothing of who reads them."""

from __future__ import annotations

from collections import deque

from gateway.event import ORIGIN, Event, Position, TurnKey

_OVERHEAD_BYTES = 400


class TurnLog:
    """Frames in the order (attempt, seq), each once. Every frame after `floor` is here; older ones may be gone.

    `user`: who published the turn through this gateway, else None. `heard`: a worker's frames of it came here.
    `began_s`: when it was published here, on the monotonic clock.
    """

    __slots__ = (
        "_asked",
        "_base",
        "_events",
        "began_s",
        "floor",
        "heard",
        "key",
        "last",
        "size",
        "step",
        "terminal",
        "user",
    )

    def __init__(self, key: TurnKey) -> None:
        self.key = key
        self.floor = ORIGIN
        self.last = ORIGIN
        self.size = _OVERHEAD_BYTES
        self.step = -1
        self.terminal: Event | None = None
        self._asked: Event | None = None
        self.user: str | None = None
        self.began_s: float | None = None
        self.heard = False
        self._base: str | None = ""
        self._events: deque[Event] = deque()

    def add(self, event: Event) -> bool:
        """Keep `event`. False: a repeated one, one of an older attempt, or one after the end."""
        if self.terminal is not None or event.position <= self.last:
            return False
        if event.type != "accepted":
            if not is_first(event) if not self.heard else skips(self.last, event):
                self._begin_at(event)
            self.heard = True
        self.last = event.position
        self._asked = self._open_after(event)
        self.size += event.size
        self._events.append(event)
        if event.own and event.type in {"step", "reset"}:
            self.step = event.step
        if event.terminal:
            self.terminal = event
        return True

    def _open_after(self, event: Event) -> Event | None:
        """A decision is asked for one at a time, and none outlives its attempt."""
        if event.type == "approval_requested":
            return event
        asked = self._asked
        over = asked is None or event.terminal or event.type == "approval_decided" or event.attempt > asked.attempt
        return None if over else asked

    @property
    def before_asked(self) -> Position | None:
        """The place before the question that is open; None: there is none, or what came since is not all here."""
        asked = self._asked
        before = (asked.attempt, asked.seq - 1) if asked is not None else None
        return before if before is not None and self.floor <= before else None

    def covers(self, after: Position) -> bool:
        """Whether every frame later than `after` is here."""
        return self.floor <= after <= self.last

    def since(self, after: Position) -> list[Event]:
        """The frames later than `after`, in order."""
        return [event for event in self._events if event.position > after]

    def text_at(self, position: Position) -> str | None:
        """The answer as it was shown at `position`; None: not known, the beginning was never seen here."""
        shown = None if self._base is None else [self._base]
        for event in self._events:
            if event.position > position:
                break
            shown = _shown(shown, event)
        return None if shown is None else "".join(shown)

    def shrink(self, limit_bytes: int) -> None:
        """Drop the oldest frames until `limit_bytes` are kept; the terminal one stays. A text that alone is larger is
        not known any more."""
        shown = None if self._base is None else [self._base]
        while self.size > limit_bytes and self._events and not self._events[0].terminal:
            event = self._events.popleft()
            shown = _shown(shown, event)
            grown = len(event.text) if event.type == "delta" and event.own and shown is not None else 0
            self.size += grown - event.size
            self.floor = event.position
        joined = None if shown is None else "".join(shown)
        if joined is not None and len(joined) > limit_bytes:
            joined = None
        self._base = joined
        self.size = _OVERHEAD_BYTES + len(joined or "") + sum(event.size for event in self._events)

    def _begin_at(self, event: Event) -> None:
        """Frames came before `event`, to somebody else: what the answer was by then is not known here."""
        self.size -= sum(item.size for item in self._events)
        self._events.clear()
        self.floor = event.position
        self._base = None


def is_first(event: Event) -> bool:
    """Whether nothing of the turn can have come before: its first attempt numbers its frames from 0."""
    return event.attempt == 0 or (event.attempt == 1 and event.seq == 0) or event.terminal


def skips(last: Position, event: Event) -> bool:
    """Whether a later attempt begins in the middle: its owner did not know of us at first, and what it voided or
    said by then went to somebody else."""
    return 0 < last[0] < event.attempt and event.seq > 0 and event.type != "reset" and not event.terminal


def _shown(shown: list[str] | None, event: Event) -> list[str] | None:
    if (event.type == "reset" and event.own) or event.terminal:
        return [event.text]
    if event.type == "delta" and event.own and shown is not None:
        shown.append(event.text)
    return shown
