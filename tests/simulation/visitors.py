"""Users with a client each: they send turns through gateways, drop their line at any frame, come back elsewhere, and
hold what they are shown against what it must be (P7, P13). Knows the public protocol alone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.simulation.front import Front, Json
from tests.simulation.ledger import TERMINAL, Ledger
from tests.simulation.weather import Weather

PATIENCE_S = 6.0
"""A client that hears nothing for so long connects again."""
NONE, BEFORE = (0, -1), (-1, -1)
AGAIN = frozenset({"publish_unknown", "unavailable", "overloaded", "not_found"})
"""Errors after which a client tries again; `not_found`: its session has not begun yet."""


@dataclass(slots=True)
class Mind:
    """What a client knows of a turn, over all its connections. `sure`: every publish of it was said to have failed;
    `seen_end`: `place` is that of its end."""

    text: str = ""
    place: tuple[int, int] = NONE
    accepted: bool = False
    sent: int = 0
    sure: bool = True
    cancelled: bool = False
    seen_end: bool = False
    end: str | None = None


@dataclass(slots=True)
class Line:
    """One connection: how far each turn has got on it, and after how many frames its user drops it. `wire`: a socket's,
    else None."""

    name: str
    wire: Any
    left: int
    seen: dict[str, tuple[int, int]] = field(default_factory=dict)


class Visitor:
    """One user of one session, with one turn after the other; `asks`: (moment, turn, text). `fronts()`: the gateways
    that take connections now."""

    def __init__(
        self,
        name: str,
        agent: str,
        asks: list[tuple[float, str, str]],
        *,
        chances: random.Random,
        fronts: Callable[[], list[Front]],
        weather: Weather,
        ledger: Ledger,
    ) -> None:
        self.name = name
        self.agent = agent
        self.minds: dict[str, Mind] = {}
        self.done = False
        self._lines = 0
        self._asks = asks
        self.asked = [turn for _, turn, _ in asks]
        self._chances = chances
        self._fronts = fronts
        self._weather = weather
        self._ledger = ledger

    async def live(self, clock_s: Callable[[], float]) -> None:
        """Every turn, to its end."""
        for at_s, turn, text in self._asks:
            await asyncio.sleep(max(0.0, at_s - clock_s()))
            mind = self._mind(turn)
            while mind.end is None:
                await self._talk(await self._connect(), turn, text, mind)
        self.done = True

    async def watch(self, clock_s: Callable[[], float], until_s: float) -> None:
        """A second client of the same user: it only looks on, and says nothing."""
        while clock_s() < until_s:
            line = await self._connect()
            self.minds.clear()  # it says nothing of what it has, so it has nothing
            line.wire.say(type="attach", session=self.name, ref="watch")
            while line.left and clock_s() < until_s:
                raw = await line.wire.next(PATIENCE_S)
                if raw is None or self._take(line, orjson.loads(raw), raw) == "again":
                    break
            line.wire.cut()
            await asyncio.sleep(self._chances.uniform(0.1, 1.0))
        self.done = True

    async def _connect(self) -> Line:
        while not (fit := self._fronts()):
            await asyncio.sleep(0.2)
        left = 1_000_000 if self._weather.fair else self._chances.choice((2, 3, 4, 6, 9, 1_000, 1_000))
        front = self._chances.choice(fit)
        self._lines += 1
        return Line(
            f"at {front.process.name}, line {'' if self._asks else 'e'}{self._lines}", front.connect(self.name), left
        )

    async def _talk(self, line: Line, turn: str, text: str, mind: Mind) -> None:
        """One connection, to the end of the turn or of the line."""
        self._ask(line, turn, text, mind)
        while line.left and mind.end is None:
            raw = await line.wire.next(PATIENCE_S)
            if raw is None:
                break
            if self._take(line, orjson.loads(raw), raw) == "again":
                await asyncio.sleep(self._chances.uniform(0.1, 1.0))
                self._still_nowhere(turn, mind)
                self._ask(line, turn, text, mind)
            if mind.accepted and self._weather.happens("cancelled by its user", 0.01):
                line.wire.say(type="cancel", session=self.name, turn=turn, op=f"v-{turn}", ref=turn)
        line.wire.cut()
        await asyncio.sleep(self._chances.uniform(0.0, 1.0))

    def _ask(self, line: Line, turn: str, text: str, mind: Mind) -> None:
        """What was accepted is attached to; what may be in is sent again, under its id."""
        if mind.accepted and self._chances.random() < 0.85:
            line.seen.pop(turn, None)
            one = {"turn": turn} if self._chances.random() < 0.7 else {}
            after = {"after": {"turn": turn, "attempt": mind.place[0], "seq": mind.place[1]}}
            line.wire.say(type="attach", session=self.name, ref=turn, **one, **(after if mind.place > NONE else {}))
        else:
            mind.sent += 1
            if turn not in line.seen:  # on a new connection all of it comes again
                mind.text, mind.place = "", NONE
            line.wire.say(type="turn", session=self.name, turn=turn, text=text, agent=self.agent, ref=turn)

    # ---- frames

    def _mind(self, turn: str) -> Mind:
        return self.minds.setdefault(turn, Mind())

    def _take(self, line: Line, frame: Json, raw: str) -> str | None:
        """One frame; "again": what was asked is to be asked again."""
        line.left -= 1
        kind, turn = frame["type"], frame.get("turn", "")
        place = f"a{frame['attempt']} q{frame['seq']}" if "seq" in frame else frame.get("verdict", "")
        self._ledger.note(f"{self.name} gets {kind} {turn} {frame.get('code', '')} {place} {line.name}")
        if kind == "error":
            return self._failed(frame, self._mind(turn or frame.get("ref", "")))
        if kind == "accepted":
            self._accepted(turn)
        elif kind == "recovered":
            self._recovered(line, frame)
        elif kind == "ack":
            self._mind(turn).cancelled |= frame["state"] in {"applied", "held"}
        elif kind == "refused":
            self._fail(turn, f"is refused as {frame['code']}")
        elif kind not in {"hello", "pong"}:
            self._shown(line, frame, raw)
        return None

    def _failed(self, frame: Json, mind: Mind) -> str:
        """P13: what is said to have failed is in no log."""
        turn, code = frame.get("turn", ""), frame["code"]
        if code not in AGAIN:
            self._fail(turn, f"is answered {code}: {frame['message']}")
        if code == "publish_unknown":
            mind.sure = False
        if code == "unavailable" and mind.sent:
            self._still_nowhere(turn, mind)
        return "again"

    def _still_nowhere(self, turn: str, mind: Mind) -> None:
        if mind.sent == 1 and mind.sure and not mind.accepted and self._sent(turn):
            self._fail(turn, "was said to have failed and lies in the log")

    def _accepted(self, turn: str) -> None:
        if not self._sent(turn):
            self._fail(turn, "was accepted and lies in no log")
        self._mind(turn).accepted = True

    def _sent(self, turn: str) -> bool:
        return (self.name, turn) in self._ledger.lives.ever

    def _recovered(self, line: Line, frame: Json) -> None:
        """`full`: what was shown goes on; else the text that is said replaces it."""
        for item in frame["turns"]:
            mind, place = self._mind(item["turn"]), (item["attempt"], item["seq"])
            line.seen[item["turn"]] = place
            if frame["verdict"] != "full":
                mind.text, mind.place = item["text"], place

    def _shown(self, line: Line, frame: Json, raw: str) -> None:
        """A frame of a turn: each once on a connection, in order; one end, and it says what was shown."""
        turn, kind, place = frame["turn"], frame["type"], (frame["attempt"], frame["seq"])
        mind = self._mind(turn)
        if place <= line.seen.get(turn, BEFORE):
            self._fail(turn, f"{kind} {place} comes after {line.seen[turn]} on one connection")
        line.seen[turn] = mind.place = place
        if kind == "delta" and "run" not in frame:
            mind.text += frame["text"]
        elif kind == "reset":
            mind.text = frame["text"]
        elif kind in TERMINAL:
            if mind.end not in (None, raw):
                self._fail(turn, f"ends as {kind} {place} and as {mind.end}")
            if kind == "completed" and not frame["text"].startswith(mind.text):
                self._fail(turn, f"was shown {mind.text!r}, answered {frame['text']!r}")
            mind.end, mind.text = raw, frame.get("text", "")

    def _fail(self, turn: str, what: str) -> None:
        self._ledger.fail(f"{self.name}/{turn} {what}")
