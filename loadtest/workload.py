"""What the load asks: a seeded stream of turns for sessions of one run. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import orjson

from loadtest.answers import Request
from loadtest.script import answer_text


class _Numbered:
    """Turns of one run, numbered in the run and in their session. `keys`: whose turn it is, each time."""

    def __init__(self, run: str, keys: Iterator[int]) -> None:
        self._run = run
        self._keys = keys
        self._numbers: Counter[int] = Counter()
        self._turns = 0

    def _count(self) -> tuple[int, str]:
        """The session that the next turn is of, and the turn's id."""
        key, self._turns = next(self._keys), self._turns + 1
        self._numbers[key] += 1
        return key, f"{self._run}.{self._turns}"


class Echo(_Numbered):
    """Turns for the agent `echo`: each a text of its own, `characters` long. `owner` names the sessions (else `run`
    does), so that several runs can use the same ones; turn ids are the run's own."""

    def __init__(self, run: str, keys: Iterator[int], *, characters: int = 32, owner: str = "") -> None:
        super().__init__(run, keys)
        self.agent = "echo"
        self._owner = owner or run
        self._characters = characters

    def next(self, intended_s: float) -> Request:
        """The next turn."""
        key, turn = self._count()
        text = turn.ljust(self._characters, "x")
        return Request(f"{self._owner}-s{key}", turn, text, text, self._numbers[key], intended_s)


class Prompt(_Numbered):
    """Turns for the agent `chat` on the scripted model: the text is the hint, each answer another run of tokens."""

    def __init__(self, run: str, keys: Iterator[int], *, tokens: int, rate: float, first_ms: float) -> None:
        super().__init__(run, keys)
        self.agent = "chat"
        self._hint = {"tokens": tokens, "rate": rate, "first_ms": first_ms}
        self._tokens = tokens

    def next(self, intended_s: float) -> Request:
        """The next turn."""
        key, turn = self._count()
        start = self._turns % 997
        text = orjson.dumps(self._hint | {"start": start}).decode()
        expected = answer_text(self._tokens, start)
        return Request(f"{self._run}-s{key}", turn, text, expected, self._numbers[key], intended_s)


class Steps(_Numbered):
    """Turns for the agent of chaos runs that works in so many durable steps of 0.15 s, each shown when it is done."""

    def __init__(self, run: str, keys: Iterator[int], *, steps: int) -> None:
        super().__init__(run, keys)
        self.agent = "chaos-steps"
        self._steps = steps

    def next(self, intended_s: float) -> Request:
        """The next turn."""
        key, turn = self._count()
        expected = "".join(f"[{turn}.{number}]" for number in range(self._steps))
        return Request(f"{self._run}-s{key}", turn, str(self._steps), expected, self._numbers[key], intended_s)


Workload = Echo | Prompt | Steps
