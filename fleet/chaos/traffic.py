"""What a chaos run asks of the fleet, decided by a seed: turns of many sessions, copies, cancels. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from fleet.chaos.agents import ASKS, DECIDED_S, STEPS, answer_of
from loadtest.script import answer_text

COPIES, CANCELS, DECIDES, BLINDLY, BY_GATEWAY, DELETES = 0.05, 0.03, 0.8, 0.25, 0.25, 0.1
"""Shares: of turns that are published again, that are cancelled, whose question is answered, of those without having
seen it; of sessions that speak over HTTP, that are deleted now and then."""
AGENTS = ("echo", "echo", "chat", "chat", STEPS, ASKS)
POLICIES = (None, None, None, None, None, "interrupt", "rollback", "reject", "steer")
DELETED = 0.05
TOKENS, TOKENS_PER_S = 12, 60


class Ask(NamedTuple):
    """A turn to be sent. `answer`: what it must say when it is completed, empty where others have a say; `again`: a
    copy of an earlier one; `delete_after_s`: the session is deleted then; `approve_after_s`: its user decides so long
    after the question on `call`, `blindly` so long after the turn was sent, too early or too late perhaps."""

    session: str
    turn: str
    agent: str
    text: str
    answer: str
    by_gateway: bool
    policy: str | None = None
    cancel_after_s: float | None = None
    delete_after_s: float | None = None
    again: bool = False
    approve_after_s: float | None = None
    blindly: bool = False

    @property
    def call(self) -> str:
        """The decision that it asks for: its second step."""
        return f"{self.turn}.1"

    @property
    def value(self) -> dict[str, Any]:
        """As it is published."""
        said = {"turn": self.turn, "agent": self.agent, "text": self.text}
        return said | {"if_busy": self.policy} if self.policy else said


@dataclass(frozen=True, slots=True)
class _Speaker:
    session: str
    agent: str
    by_gateway: bool
    policy: str | None
    deletes: bool


class Traffic:
    """`next` gives what comes next, for ever. `run` makes the ids of a run its own."""

    def __init__(self, run: str, *, seed: int, sessions: int) -> None:
        self._run = run
        self._chances = chances = random.Random(f"traffic {seed}")
        self._turns = 0
        self._past: list[Ask] = []
        self._speakers = [
            _Speaker(
                f"{run}-s{number}",
                chances.choice(AGENTS),
                chances.random() < BY_GATEWAY,
                chances.choice(POLICIES),
                chances.random() < DELETES,
            )
            for number in range(sessions)
        ]

    def next(self) -> Ask:
        """A new turn, or a copy of one of the last hundred."""
        chances = self._chances
        if self._past and chances.random() < COPIES:
            again = chances.choice(self._past)
            return Ask(*again[:7], again=True)
        self._turns += 1
        speaker, turn = chances.choice(self._speakers), f"{self._run}-t{self._turns}"
        text, answer = self._said(speaker.agent, turn)
        if speaker.policy == "steer":
            answer = ""
        ask = Ask(speaker.session, turn, speaker.agent, text, answer, speaker.by_gateway, speaker.policy)
        if speaker.agent == ASKS and chances.random() < DECIDES:
            after_s, blindly = chances.uniform(0.1, 0.5 * DECIDED_S), chances.random() < BLINDLY
            ask = ask._replace(approve_after_s=after_s, blindly=blindly)
        if chances.random() < CANCELS:
            ask = ask._replace(cancel_after_s=chances.uniform(0.0, 0.3))
        elif speaker.deletes and chances.random() < DELETED:
            ask = ask._replace(delete_after_s=chances.uniform(0.0, 0.3))
        self._past = [*self._past[-99:], ask]
        return ask

    def pause_s(self, rate: float) -> float:
        """Until the next one: arrivals are Poisson."""
        return self._chances.expovariate(rate)

    def _said(self, agent: str, turn: str) -> tuple[str, str]:
        """What is asked, and what must be answered."""
        if agent == STEPS:
            count = self._chances.randrange(1, 6)
            return str(count), answer_of(turn, count)
        if agent == ASKS:
            return "ask", answer_of(turn, 3)
        if agent == "chat":
            start = self._turns * TOKENS % 90_000
            hint = {"tokens": TOKENS, "rate": TOKENS_PER_S, "first_ms": 20, "start": start}
            return orjson.dumps(hint).decode(), answer_text(TOKENS, start)
        return f"say {turn}", f"say {turn}"
