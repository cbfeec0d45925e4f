"""Records that harm whoever takes them, decided by a seed, and what became of each. Pure; knows the contract only."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from loadtest.answers import TERMINAL
from loadtest.dead_letters import Letter

LARGE = 1_048_000
"""Characters of text: as near to 1 MiB as a broker takes a record."""
TRIES = 3


class Poison(NamedTuple):
    """A record that is due so many seconds after the start. `code`: how a turn of it must end, "" where the record is
    refused and no turn comes of it; `letter`: the code of its dead letter, "" where it needs none."""

    due_s: float
    kind: str
    key: bytes
    value: bytes
    turn: str
    code: str
    letter: str


Make = Callable[[str, int], tuple[bytes, str, str]]
"""(turn id, the moment by which it must be over in epoch ms) -> (value, code, letter)."""


def _turn(agent: str, code: str, letter: str) -> Make:
    def make(turn: str, deadline_ms: int) -> tuple[bytes, str, str]:
        return orjson.dumps({"turn": turn, "agent": agent, "text": turn, "deadline_ms": deadline_ms}), code, letter

    return make


HARMLESS: Mapping[str, Make] = {
    "undecodable": lambda turn, _: (b"\xff\x00{" + turn.encode(), "", "bad_request"),
    "wrong schema": lambda turn, _: (orjson.dumps({"turn": turn, "text": 5, "parts": "none"}), "", "bad_request"),
    "1 MiB": lambda turn, _: (orjson.dumps({"turn": turn, "text": "x" * LARGE}), "", "too_large"),
    "raises": _turn("poison-raises", "agent_error", "agent_error"),
    "hangs": _turn("poison-hangs", "deadline_exceeded", "deadline_exceeded"),
    "kills a process of its own": _turn("poison-apart", "agent_error", "agent_error"),
}
"""Kinds that cost no worker its life."""
DEADLY: Mapping[str, Make] = {
    "kills its worker": _turn("poison-kills", "poison", "poison"),
    "blocks its worker": _turn("poison-blocks", "poison", "poison"),
}


class Plan(NamedTuple):
    """`sessions`: those among whose turns the poison lies; `deadline_s`: of a turn, from when it is due."""

    run: str
    sessions: int
    deadline_s: float
    now_ms: int


def corpus(plan: Plan, kinds: Mapping[str, Make], times: Sequence[float], *, seed: int) -> Iterator[Poison]:
    """One poison at each of these times, the kinds in turn. What no turn comes of lies in sessions of the others, of
    the seed's choice; a turn for another agent must have a session of its own."""
    rng, names = random.Random(seed), list(kinds)
    for number, due_s in enumerate(times):
        kind, turn = names[number % len(names)], f"{plan.run}.poison{number}"
        value, code, letter = kinds[kind](turn, plan.now_ms + int((due_s + plan.deadline_s) * 1000))
        key = (f"{plan.run}-p{number}" if code else f"{plan.run}-s{rng.randrange(plan.sessions)}").encode()
        yield Poison(due_s, kind, key, value, turn, code, letter)


class Fates:
    """What is heard of poisonous turns."""

    def __init__(self) -> None:
        self.ends: dict[str, tuple[str, int]] = {}

    def heard(self, frame: Mapping[str, Any], _at_s: float) -> None:
        """A frame was read."""
        if frame["type"] in TERMINAL and ".poison" in str(frame.get("turn")):
            self.ends[frame["turn"]] = (str(frame.get("code") or frame["type"]), frame["attempt"])

    def outstanding(self, sent: Sequence[Poison]) -> int:
        """How many turns have not ended."""
        return sum(bool(poison.code) and poison.turn not in self.ends for poison in sent)

    def faults(self, sent: Sequence[Poison], letters: Sequence[Letter]) -> list[str]:
        """What is not as it must be: each has its end or its one letter, byte for byte, after three tries at most."""
        by_value: dict[bytes, list[Letter]] = {}
        for letter in letters:
            by_value.setdefault(letter.value, []).append(letter)
        return [line for poison in sent for line in self._judge(poison, by_value.get(poison.value, []))]

    def _judge(self, poison: Poison, letters: Sequence[Letter]) -> Iterator[str]:
        codes, end = [letter.code for letter in letters], self.ends.get(poison.turn, ("", 0))
        if codes != ([poison.letter] if poison.letter else []):
            yield f"{poison.kind}: dead letters {codes} instead of {[poison.letter]}, {poison.turn}"
        if end[0] != poison.code:
            yield f"{poison.kind}: ended {end[0] or 'not at all'} instead of {poison.code or 'refused'}, {poison.turn}"
        # the terminal frame of a turn that was given up has the number of the attempt that it was not given any more
        tries = max([letter.attempts for letter in letters], default=end[1])
        if tries > TRIES:
            yield f"{poison.kind}: tried {tries} times, {poison.turn}"
