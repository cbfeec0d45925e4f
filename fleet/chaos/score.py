"""What a chaos run counts: turns offered, accepted, answered, how and when. Moments on one clock; knows no network."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from fleet.chaos.agents import ASKS
from fleet.chaos.traffic import Ask
from loadtest.figures import Latency, percentile

TERMINALS = frozenset({"completed", "failed", "cancelled"})
EXAMPLES = 20


class Score:
    """`start_s`: when the load begins. `wrong`: answers that are not what they must be, in sentences."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.start_s = clock_s()
        self.repeated = 0
        self.commands: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []
        self._clock_s = clock_s
        self._asked: dict[str, Ask] = {}
        self._offered_s: dict[str, float] = {}
        self._accepted: set[str] = set()
        self._ended: set[str] = set()
        self._latency: dict[int, list[float]] = defaultdict(list)
        self._waits: list[tuple[float, float]] = []  # from, to: of completed turns, in order of their ends
        self._runs_at: dict[str, int] = {}
        self._takeovers: list[tuple[float, int]] = []

    def offered(self, ask: Ask) -> None:
        """A new turn is about to be sent."""
        self._asked[ask.turn] = ask
        self._offered_s[ask.turn] = self._now_s()

    def accepted(self, ask: Ask) -> None:
        """Broker or gateway have it."""
        self._accepted.add(ask.turn)

    def commanded(self, kind: str) -> None:
        """A control op is about to be sent."""
        self.commands[kind] += 1

    def status(self, code: int) -> None:
        """The gateway answered so."""
        self.statuses[code] += 1

    def heard(self, frame: Mapping[str, Any]) -> None:
        """A frame of the replies; the first terminal one of each turn counts."""
        turn = frame.get("turn")
        if frame.get("type") == "started" and isinstance(turn, str):
            self._started(turn, frame)
        ask = self._asked.get(turn) if isinstance(turn, str) else None
        if ask is None or frame["type"] not in TERMINALS or ask.turn in self._ended:
            return
        now_s = self._now_s()
        self._ended.add(ask.turn)
        self.outcomes[frame["type"]] += 1
        if frame["type"] == "failed":
            self.codes[str(frame.get("code"))] += 1
        if frame["type"] == "completed":
            if ask.answer and frame["text"] != ask.answer and len(self.wrong) < EXAMPLES:
                self.wrong.append(f"{ask.session}/{ask.turn}: answered {frame['text']!r}, want {ask.answer!r}")
            if ask.agent == ASKS:
                return  # it takes its user's time
            self._waits.append((self._offered_s[ask.turn], now_s))
            self._latency[int(now_s)].append(now_s - self._offered_s[ask.turn])

    @property
    def unanswered(self) -> set[str]:
        """Turns that were accepted and have no terminal frame."""
        return self._accepted - self._ended

    def _started(self, turn: str, frame: Mapping[str, Any]) -> None:
        """An attempt began. `worker` is host, process id and a random part."""
        before, pid = self._runs_at.get(turn, 0), int(str(frame["worker"]).split("-")[-2])
        self._runs_at[turn] = pid
        ask = self._asked.get(turn)
        if frame["attempt"] > 1 and before != pid and (ask is None or ask.agent != ASKS):
            self._takeovers.append((self._now_s(), before))

    def silence_s(self, from_s: float = 0.0, to_s: float = float("inf")) -> float:
        """The longest time in which no turn was completed, of those that touch this one."""
        ends = [end_s for _, end_s in self._waits]
        touching = (pair for pair in pairwise(ends) if pair[1] >= from_s and pair[0] <= to_s)
        return max((later - sooner for sooner, later in touching), default=0.0)

    def recovery_s(self, from_s: float, to_s: float) -> float:
        """The longest that a turn was waited for that was sent by the end of this time and completed after its
        beginning; waiting before it does not count."""
        found = (end_s - max(sent_s, from_s) for sent_s, end_s in self._waits if end_s >= from_s and sent_s <= to_s)
        return max(found, default=0.0)

    def taken_over(self, from_s: float, to_s: float, pid: int) -> list[float]:
        """When turns of this process went on in another one, within this time, in seconds from its start."""
        return [round(at_s - from_s, 2) for at_s, whose in self._takeovers if whose == pid and from_s <= at_s <= to_s]

    def seconds(self) -> list[tuple[int, int, float]]:
        """(second, turns completed in it, p99 of their latency in ms), gaps included."""
        last = max(self._latency, default=-1)
        return [
            (second, len(found), round(percentile(sorted(found), 0.99) * 1000, 1) if found else float("nan"))
            for second in range(last + 1)
            for found in [self._latency.get(second, [])]
        ]

    def as_json(self) -> dict[str, Any]:
        """Counts and latencies."""
        return {
            "offered": len(self._asked),
            "accepted": len(self._accepted),
            "answered": len(self._ended),
            "unanswered": sorted(self.unanswered)[:EXAMPLES],
            "outcomes": dict(self.outcomes),
            "failed_codes": dict(self.codes),
            "http_refusals": {str(code): count for code, count in self.statuses.items()},
            "commands": dict(self.commands),
            "repeated_sends": self.repeated,
            "wrong_answers": self.wrong,
            "longest_silence_s": round(self.silence_s(), 2),
            "latency": asdict(Latency.of([one for found in self._latency.values() for one in found])),
        }

    def _now_s(self) -> float:
        return self._clock_s() - self.start_s
