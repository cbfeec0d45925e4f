"""Numbers and sends one attempt's frames, joining deltas. Knows frames and time; nothing of agents or of who reads.

A delta goes out at once when the last one is `delta_ms` old, else with all that follow it in that time: one frame a
`delta_ms`, whatever the model's speed. `started` precedes the first other frame; a turn that ends before it sent any
sends none (`announce` says it for those that take longer).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

from schemas.frames import Delta, Frame, Reasoning, Reset, Started, encode

Kind = Literal["delta", "reasoning"]
# A character is at most six bytes of JSON, and a frame at most 512 KiB.
MAX_DELTA_CHARS = 65_536


class Handle(Protocol):
    """What `loop.call_later` gives."""

    def cancel(self) -> None: ...


Publish = Callable[[bytes], None]
CallLater = Callable[[float, Callable[[], None]], Handle]


class FrameIds(NamedTuple):
    """What every frame of one attempt says, and what `started` says more."""

    tenant: str
    session: str
    turn: str
    attempt: int
    agent: str
    agent_version: str
    worker: str
    journal_version: int


class Emitter:
    """The frames of one attempt, seq 0 first. `publish` takes an encoded frame and returns at once, order kept.

    `clock_ms`: the wall clock; `call_later(seconds, call)`: the loop's. After `close` nothing is sent.
    """

    __slots__ = (
        "_kind",
        "_last_ms",
        "_message",
        "_pending",
        "_seq",
        "_timer",
        "call_later",
        "clock_ms",
        "closed",
        "delta_ms",
        "ids",
        "publish",
        "sent_bytes",
    )

    def __init__(
        self, ids: FrameIds, publish: Publish, *, clock_ms: Callable[[], int], call_later: CallLater, delta_ms: int
    ) -> None:
        self.ids = ids
        self.closed = False
        self.sent_bytes = 0
        self.publish = publish
        self.clock_ms = clock_ms
        self.call_later = call_later
        self.delta_ms = delta_ms
        self._seq = 0
        self._kind: Kind = "delta"
        self._message = ""
        self._pending: list[str] = []
        self._last_ms = 0
        self._timer: Handle | None = None

    @property
    def announced(self) -> bool:
        """`started` is out."""
        return self._seq > 0

    def announce(self) -> None:
        """Send `started`, once."""
        if self._seq == 0 and not self.closed:
            ids = self.ids
            self.put(
                Started,
                agent=ids.agent,
                agent_version=ids.agent_version,
                worker=ids.worker,
                journal_version=ids.journal_version,
            )

    def delta(self, message: str, text: str, kind: Kind = "delta") -> None:
        """Provisional text of `message`; joined with its neighbours of the same message and kind."""
        if self.closed or not text:
            return
        if self._pending and (message != self._message or kind != self._kind):
            self.flush()
        self._message, self._kind = message, kind
        self._pending.append(text)
        if self._timer is None:
            self._schedule()

    def send(self, frame: type[Frame], **fields: Any) -> None:
        """Send a frame of any other type now, after the text that waits. `fields`: what the type has of its own."""
        if not self.closed:
            self.flush()
            self.announce()
            self.put(frame, **fields)

    def reset(self, reason: str, step: int, text: str) -> None:
        """What was shown after durable step `step` is void, the answer so far is `text`. Waiting text is dropped."""
        self._drop_pending()
        self.send(Reset, reason=reason, step=step, text=text)

    def flush(self) -> None:
        """Send the text that waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending and not self.closed:
            text = "".join(self._pending)
            self._pending.clear()
            self.announce()
            frame = Delta if self._kind == "delta" else Reasoning
            for start in range(0, len(text), MAX_DELTA_CHARS):
                self.put(frame, message=self._message, text=text[start : start + MAX_DELTA_CHARS])
            self._last_ms = self.clock_ms()

    def next_seq(self) -> int:
        """The number of the frame that the caller publishes itself: the terminal one. Flushes first."""
        self.flush()
        seq = self._seq
        self._seq += 1
        return seq

    def announced_seq(self) -> int:
        """The same of a frame that is not the terminal one: `started` goes before it."""
        self.announce()
        return self.next_seq()

    def close(self) -> None:
        """Nothing is sent any more; waiting text is dropped."""
        self._drop_pending()
        self.closed = True

    def _drop_pending(self) -> None:
        self._pending.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        wait_ms = self.delta_ms - (self.clock_ms() - self._last_ms)
        if wait_ms <= 0:
            self.flush()
        else:
            self._timer = self.call_later(min(wait_ms, self.delta_ms) / 1000, self._due)

    def _due(self) -> None:
        self._timer = None
        self.flush()

    def put(self, frame: type[Any], **fields: Any) -> None:
        """Send a frame now, ahead of text that waits: for lines that have text of their own."""
        ids = self.ids
        made = frame(
            tenant=ids.tenant,
            session=ids.session,
            turn=ids.turn,
            attempt=ids.attempt,
            seq=self._seq,
            at_ms=self.clock_ms(),
            **fields,
        )
        self._seq += 1
        raw = encode(made)
        self.sent_bytes += len(raw)
        self.publish(raw)
