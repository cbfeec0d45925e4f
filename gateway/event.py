"""One frame as it came from `agent.replies`: the few fields that delivery needs, and the text to pass on verbatim.

Knows nothing of connections.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import orjson

from schemas.frames import TERMINAL_TYPES, Frame, encode

Position = tuple[int, int]
TurnKey = tuple[str, str, str]
SessionKey = tuple[str, str]

ORIGIN: Position = (0, -1)
_OVERHEAD_BYTES = 200
_DELTAS = frozenset({"delta", "reasoning"})


class Event(NamedTuple):
    """`raw` is the frame's JSON as it was published; the rest was read out of it. `turn` is empty in some acks.

    `text`: of a delta, a reset or a terminal frame. `own`: no sub-agent's. `op`: of an ack.
    `place`: (partition, offset) of the record that a `refused` answers.
    """

    type: str
    tenant: str
    session: str
    turn: str
    attempt: int
    seq: int
    raw: str
    text: str = ""
    step: int = -1
    message: str = ""
    own: bool = True
    op: str = ""
    place: Position | None = None

    @property
    def position(self) -> Position:
        """The order within a turn."""
        return (self.attempt, self.seq)

    @property
    def key(self) -> TurnKey:
        return (self.tenant, self.session, self.turn)

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        return len(self.raw) + _OVERHEAD_BYTES

    @property
    def terminal(self) -> bool:
        return self.type in TERMINAL_TYPES

    @property
    def is_delta(self) -> bool:
        """Provisional text: may be joined with its neighbours."""
        return self.type in _DELTAS

    def with_ref(self, ref: str | None) -> str:
        """The JSON with the client's `ref` put in front."""
        return self.raw if ref is None else '{"ref":' + orjson.dumps(ref).decode() + "," + self.raw[1:]


def parse_event(value: bytes | str) -> Event | None:
    """The event of a published frame; None where it is none of ours."""
    try:
        fields = orjson.loads(value)
        return _event(fields, value if isinstance(value, str) else value.decode())
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def event_of(frame: Frame) -> Event:
    """The event of a frame that the gateway itself says."""
    raw = encode(frame)
    return _event(orjson.loads(raw), raw.decode())


def now_ms() -> int:
    """The wall clock in epoch milliseconds."""
    return time.time_ns() // 1_000_000


def _event(fields: dict[str, Any], raw: str) -> Event:
    get = fields.get
    kind = fields["type"]
    place = (fields["partition"], fields["offset"]) if kind == "refused" else None
    return Event(
        type=kind,
        tenant=get("tenant", "default"),
        session=fields["session"],
        turn=get("turn", ""),
        attempt=get("attempt", 0),
        seq=get("seq", 0),
        raw=raw,
        text=get("text", ""),
        step=get("step", -1),
        message=get("message", ""),
        own="run" not in fields,
        op=get("op", ""),
        place=place,
    )
