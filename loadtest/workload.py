"""What the load asks: a seeded stream of turns for sessions of one run. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import orjson

from loadtest.answers import Request
from loadtest.script import answer_text


class Echo:
    """Turns for the agent `echo`: each a text of its own, `characters` long. `owner` names the sessions (else `run`
    does), so that several runs can use the same ones; turn ids are the run's own."""

    def __init__(self, run: str, keys: Iterator[int], *, characters: int = 32, owner: str = "") -> None:
        self.agent = "echo"
        self._owner = owner or run
        self._run = run
        self._keys = keys
        self._characters = characters
        self._numbers: Counter[int] = Counter()
        self._turns = 0

    def next(self, intended_s: float) -> Request:
        """The next turn."""
        key, self._turns = next(self._keys), self._turns + 1
        self._numbers[key] += 1
        turn = f"{self._run}.{self._turns}"
        text = turn.ljust(self._characters, "x")
        return Request(f"{self._owner}-s{key}", turn, text, text, self._numbers[key], intended_s)


class Prompt:
    """Turns for the agent `chat` on the scripted model: the text is the hint, each answer another run of tokens."""

    def __init__(self, run: str, keys: Iterator[int], *, tokens: int, rate: float, first_ms: float) -> None:
        self.agent = "chat"
        self._run = run
        self._keys = keys
        self._hint = {"tokens": tokens, "rate": rate, "first_ms": first_ms}
        self._tokens = tokens
        self._numbers: Counter[int] = Counter()
        self._turns = 0

    def next(self, intended_s: float) -> Request:
        """The next turn."""
        key, self._turns = next(self._keys), self._turns + 1
        self._numbers[key] += 1
        start = self._turns % 997
        text = orjson.dumps(self._hint | {"start": start}).decode()
        expected = answer_text(self._tokens, start)
        turn = f"{self._run}.{self._turns}"
        return Request(f"{self._run}-s{key}", turn, text, expected, self._numbers[key], intended_s)


class Steps:
    """Turns for the agent of chaos runs that works in so many durable steps of 0.15 s, each shown when it is done."""

    def __init__(self, run: str, keys: Iterator[int], *, steps: int) -> None:
        self.agent = "chaos-steps"
        self._run = run
        self._keys = keys
        self._steps = steps
        self._numbers: Counter[int] = Counter()
        self._turns = 0

    def next(self, intended_s: float) -> Request:
        """The next turn."""
        key, self._turns = next(self._keys), self._turns + 1
        self._numbers[key] += 1
        turn = f"{self._run}.{self._turns}"
        expected = "".join(f"[{turn}.{number}]" for number in range(self._steps))
        return Request(f"{self._run}-s{key}", turn, str(self._steps), expected, self._numbers[key], intended_s)


Workload = Echo | Prompt | Steps
