"""Faults that come by moment, not by operation: who dies, freezes, joins, leaves; what is rewound, stepped, slow."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import ClassVar

from tests.simulation.virtual import EMPTY
from tests.simulation.world import PARTITIONS, SESSION_TIMEOUT_S, World

MOST_WORKERS = 4
NEW_TOPICS = 0.25
"""In so many seeds they are made anew."""


def makes_topics_anew(seed: int) -> bool:
    """Whether this one does."""
    return random.Random(f"anew {seed}").random() < NEW_TOPICS


class Faults:
    """`schedule` puts `count` faults into the span of the load."""

    def __init__(self, seed: int, world: World) -> None:
        self._seed = seed
        self._chances = random.Random(f"faults {seed}")
        self._world = world

    def schedule(self, count: int) -> None:
        """All of them, by moment."""
        kinds = [kind for kind, weight in self._kinds.items() for _ in range(weight)]
        for _ in range(count):
            at_s = self._chances.uniform(0.2, self._world.plan.span_s)
            self._world.loop.call_later(at_s, self._strike, self._chances.choice(kinds), context=EMPTY)

    def schedule_new_topics(self) -> None:
        """In some seeds, once: `agent.turns`, mostly `agent.control` as well. Their commits go too, as in Kafka."""
        if makes_topics_anew(self._seed):
            chances = random.Random(f"anew, when {self._seed}")
            at_s = chances.uniform(0.3, 0.8) * self._world.plan.span_s
            streams = ("agent.turns", "agent.control") if chances.random() < 0.7 else ("agent.turns",)
            self._world.loop.call_later(at_s, self._make_anew, streams, context=EMPTY)

    def _make_anew(self, streams: tuple[str, ...]) -> None:
        self._world.weather.counts["topics made anew"] += 1
        self._world.ledger.note("fault: topics are made anew")
        self._world.make_anew(streams)

    def _strike(self, kind: str) -> None:
        if not self._world.weather.fair:
            self._world.weather.counts[kind] += 1
            self._world.ledger.note(f"fault: {kind}")
            self._acts[kind](self)

    def _crash(self) -> None:
        if fit := self._world.fit():
            self._world.kill(self._chances.choice(fit))

    def _freeze(self) -> None:
        if fit := self._world.fit():
            self._world.freeze(
                self._chances.choice(fit), SESSION_TIMEOUT_S * self._chances.choice((0.3, 1.0, 1.5, 3.0))
            )

    def _join(self) -> None:
        if len(self._world.fit()) < MOST_WORKERS:
            self._world.join()

    def _leave(self) -> None:
        fit = self._world.fit()
        if len(fit) > 1:
            self._world.leave(self._chances.choice(fit))

    def _rebalance(self) -> None:
        self._world.group.rebalance()

    def _rewind(self) -> None:
        committed = self._world.group.committed
        stream, partition = self._chances.choice(("agent.turns", "agent.control")), self._chances.randrange(PARTITIONS)
        place = (stream, partition)
        committed[place] = max(0, committed.get(place, 0) - self._chances.choice((1, 5, 1_000)))
        self._world.group.rebalance()

    def _clock_step(self) -> None:
        if fit := self._world.fit():
            self._chances.choice(fit).skew_ms += self._chances.choice((-30_000, -2_000, 2_000, 20_000))

    def _slow_store(self) -> None:
        weather = self._world.weather
        weather.slow = self._chances.choice((5.0, 40.0))
        self._later(self._chances.uniform(0.5, 3.0), lambda: setattr(weather, "slow", 1.0))

    def _store_down(self) -> None:
        weather = self._world.weather
        weather.store_down = True
        self._later(self._chances.uniform(0.3, 3.0), lambda: setattr(weather, "store_down", False))

    def _broker_down(self) -> None:
        self._world.cluster.fail()
        self._later(self._chances.uniform(0.3, 3.0), self._world.recover)

    def _later(self, after_s: float, call: Callable[[], None]) -> None:
        self._world.loop.call_later(after_s, call, context=EMPTY)

    _kinds: ClassVar[dict[str, int]] = {
        "crash": 4,
        "freeze": 4,
        "join": 3,
        "leave": 2,
        "rebalance": 3,
        "rewind": 2,
        "clock step": 1,
        "slow store": 1,
        "store down": 1,
        "broker down": 1,
    }
    _acts: ClassVar[dict[str, Callable[[Faults], None]]] = {
        "crash": _crash,
        "freeze": _freeze,
        "join": _join,
        "leave": _leave,
        "rebalance": _rebalance,
        "rewind": _rewind,
        "clock step": _clock_step,
        "slow store": _slow_store,
        "store down": _store_down,
        "broker down": _broker_down,
    }
