"""The idle scenario: what is measured side by side meets the same state of the machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from loadtest.answers import Request
from loadtest.bench import Bench, Plan
from loadtest.generator import Heard
from loadtest.kafka_lane import KafkaLane
from loadtest.scenarios import idle


class Lane:
    """Answers each turn at once and notes who was open then."""

    def __init__(self, name: str, seen: list[tuple[str, bool]], direct_open: Callable[[], bool]) -> None:
        self.name = name
        self.open = True
        self._seen = seen
        self._direct_open = direct_open
        self._heard: Heard | None = None

    async def start(self) -> None:
        self.open = True

    async def stop(self) -> None:
        self.open = False

    def listen(self, heard: Heard) -> None:
        self._heard = heard

    def submit(self, request: Request, agent: str) -> None:
        self._seen.append((self.name, self._direct_open()))
        frame = {"type": "completed", "session": request.session, "turn": request.turn, "text": request.text}
        assert self._heard is not None
        self._heard({**frame, "attempt": 1, "seq": 1}, request.intended_s + 0.001)


class World:
    """A bench whose three sides are such lanes."""

    def __init__(self) -> None:
        self.plan = Plan(repetitions=1, scale=0.001)
        self.seen: list[tuple[str, bool]] = []
        self.direct = Lane("product", self.seen, lambda: self.direct.open)
        self.yard = Lane("yardstick", self.seen, lambda: self.direct.open)
        self.edge = Lane("websocket", self.seen, lambda: self.direct.open)

    def yardstick(self) -> Held:
        return Held((self.yard, None))

    def product(self, *, gateway: bool) -> Held:
        assert gateway
        return Held(self)

    def sockets(self, product: object, count: int) -> Held:
        return Held(self.edge)

    @property
    def lane(self) -> Lane:
        return self.direct


class Held:
    """A context that gives what it was made with."""

    def __init__(self, given: object) -> None:
        self._given = given

    async def __aenter__(self) -> object:
        return self._given

    async def __aexit__(self, *_: object) -> None:
        return None


async def test_each_side_begins_a_round_and_nobody_reads_beside_the_socket() -> None:
    world = World()

    outcome = await idle.measure(cast(Bench, cast(Any, world)))

    assert [name for name, _ in world.seen[3:]] == [
        *("yardstick", "product", "websocket"),
        *("product", "websocket", "yardstick"),
        *("websocket", "yardstick", "product"),
    ], "after a round that counts for nothing"
    assert set(world.seen) == {("yardstick", True), ("product", True), ("websocket", False)}
    assert world.direct.open, "it is the bench that closes it at the end"
    assert len(outcome.runs) == 3 * idle.ROUNDS
    assert not outcome.faults


async def test_the_lane_over_kafka_is_open_again_after_a_run_that_fails() -> None:
    world = World()

    with pytest.raises(RuntimeError):
        async with idle._closed(cast(KafkaLane, cast(Any, world.direct))):
            raise RuntimeError("the run failed")

    assert world.direct.open
