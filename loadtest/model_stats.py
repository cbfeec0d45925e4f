"""What the scripted model saw: calls, tokens, early ends, overlapping turns of one session. Knows no sockets; the
clock is passed in."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import Any

HANDOVER_S = 0.05
"""A cancelled turn's connection may be seen to close after the next turn's call came: that long it is no overlap."""


@dataclass(frozen=True, slots=True)
class Early:
    """A stream that its reader closed before the end."""

    session: str
    turn: str
    tokens_sent: int
    tokens_wanted: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two turns of one session that were at the model at the same time."""

    session: str
    turn: str
    other_turn: str
    seconds: float


@dataclass(slots=True, eq=False)
class Active:
    """A call that is being answered; `met` are calls of other turns of the session that began meanwhile."""

    session: str
    turn: str
    started_s: float
    met: list[Active]
    ended_s: float | None = None


class Stats:
    """Counters of one server, from its start or the last reset. Sessions are told apart only if a call names one."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._active: defaultdict[str, list[Active]] = defaultdict(list)
        self.reset()

    def reset(self) -> None:
        """Begin to count anew; calls that are being answered stay known."""
        self.statuses: Counter[int] = Counter()
        self.tokens = 0
        self.in_flight_max = self.in_flight
        self.completed = 0
        self.cut = 0
        self.parallel_calls_of_one_turn = 0
        self.early: list[Early] = []
        self.overlaps: list[Overlap] = []
        self.asked: Counter[str] = Counter()

    def began(self, session: str, turn: str, now_s: float) -> Active:
        """A call that will be answered has come; give what is returned to `ended`."""
        call = Active(session, turn, now_s, [])
        if turn:
            self.asked[turn] += 1
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        if session:
            for other in self._active[session]:
                if other.turn == turn:
                    self.parallel_calls_of_one_turn += 1
                else:
                    other.met.append(call)
            self._active[session].append(call)
        return call

    def ended(self, call: Active, now_s: float) -> None:
        """The answer of `call` is over, in whatever way."""
        self.in_flight -= 1
        call.ended_s = now_s
        if not call.session:
            return
        self._active[call.session].remove(call)
        if not self._active[call.session]:
            del self._active[call.session]
        for later in call.met:
            seconds = min(now_s, later.ended_s or now_s) - later.started_s
            if seconds > HANDOVER_S:
                self.overlaps.append(Overlap(call.session, later.turn, call.turn, round(seconds, 3)))

    def closed_early(self, call: Active, *, tokens_sent: int, tokens_wanted: int, at_ms: int) -> None:
        """The reader went away before the last token; `at_ms` is the moment in epoch milliseconds."""
        self.early.append(Early(call.session, call.turn, tokens_sent, tokens_wanted, at_ms))

    def as_dict(self) -> dict[str, Any]:
        """As served at `/stats`."""
        return {
            "requests": sum(self.statuses.values()),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "tokens": self.tokens,
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
            "completed": self.completed,
            "cut": self.cut,
            "parallel_calls_of_one_turn": self.parallel_calls_of_one_turn,
            "closed_early": [asdict(early) for early in self.early],
            "overlaps": [asdict(overlap) for overlap in self.overlaps],
        }
