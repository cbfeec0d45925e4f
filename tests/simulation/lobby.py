"""The gateways of a run, the users in front of them, and what goes wrong there. Drawn from the seed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import orjson

from tests.simulation.callers import Caller
from tests.simulation.front import Front, front_store
from tests.simulation.virtual import EMPTY, Process
from tests.simulation.visitors import Mind, Visitor

if TYPE_CHECKING:
    from tests.simulation.world import World

GATEWAYS = 2
SHARE = 0.15  # of the load's turns, beside them, are sent through gateways
FAULTS_A_TURN = 0.05


class Lobby:
    """Sessions of its own (`v0`, …), each of one user with two clients, of which one only looks on. Every fourth seed
    goes without, another fourth has one: gateways and clients cost as much as a third of the rest."""

    def __init__(self, seed: int, world: World, topics: tuple[str, ...]) -> None:
        self._world = world
        self._topics = topics
        self._kinds = {0: (Caller,), 3: (Visitor, Caller)}.get(seed % 4, (Visitor,))
        self._chances = random.Random(f"lobby {seed}")
        self._names = itertools.count(1)
        self._fronts: list[Front] = []
        turns = max(2, round(len(world.plan.turns) * SHARE))
        self.visitors = [self._visitor(f"v{number}", turns // 2) for number in range({0: 1, 2: 0}.get(seed % 4, 2))]
        self._lookers = [self._visitor(visitor.name, 0) for visitor in self.visitors]
        for visitor in self.visitors:
            world.plan.sessions[visitor.name] = visitor.agent

    def open(self) -> None:
        """Gateways and users begin, faults are set."""
        world, span_s = self._world, self._world.plan.span_s
        if not self.visitors:
            return
        for _ in range(GATEWAYS):
            self._join()
        for visitor in self.visitors:
            world.loop.create_task(visitor.live(world.loop.time))
        for looker in self._lookers:
            world.loop.create_task(looker.watch(world.loop.time, span_s))
        for _ in range(max(1, int(len(world.plan.turns) * FAULTS_A_TURN))):
            world.loop.call_later(self._chances.uniform(0.2, span_s), self._strike, context=EMPTY)

    @property
    def quiet(self) -> bool:
        """Every user has the end of every turn."""
        return all(visitor.done for visitor in self.visitors) or not self._fronts

    def broken(self) -> Iterator[str]:
        """P7: each user ended with exactly what the journal holds."""
        over = self._world.ledger.over
        for visitor in self.visitors:
            for turn in visitor.asked:
                mind = visitor.minds.get(turn, Mind())
                stored = over.get((visitor.name, turn))
                if mind.end is None or mind.end != stored:
                    yield f"{visitor.name}/{turn} ended with {mind.end}, stored is {stored}"
                elif mind.cancelled and orjson.loads(stored)["type"] != "cancelled":
                    yield f"{visitor.name}/{turn}: its cancel was acknowledged, the turn is {stored}"

    def _visitor(self, name: str, turns: int) -> Visitor:
        world, chances = self._world, self._chances
        agent = chances.choice(("chat", "chat", "steps", "echo"))
        moments = sorted(chances.uniform(0.0, world.plan.span_s) for _ in range(turns))
        asks = []
        for at_s in moments:
            turn = f"u{chances.randrange(10**9)}"
            asks.append((at_s, turn, f"{turn} {chances.randint(1, 4)}" if agent == "steps" else f"say {turn}"))
        kind = self._kinds[int(name[1:]) % len(self._kinds)]
        return kind(
            name, agent, asks, chances=chances, fronts=self._fit, weather=world.weather, ledger=world.ledger
        )  # fmt: skip

    def _fit(self) -> list[Front]:
        return [front for front in self._fronts if front.fit]

    def _join(self) -> None:
        world = self._world
        process = Process(world.loop, f"g{next(self._names)}")
        front = Front(process, world.loop, world.weather, self._gone)
        self._fronts.append(front)
        world.ledger.note(f"{process.name} joins")
        store = front_store(world.store, world.journal, world.loop, world.weather)
        world.loop.create_task(front.run(world.cluster, self._topics, store), context=process.context)

    def _gone(self, front: Front) -> None:
        self._world.ledger.note(f"{front.process.name} is gone")
        self._fronts.remove(front)
        self._world.loop.call_later(self._chances.uniform(0.1, 2.0), self._join, context=EMPTY)

    def _strike(self) -> None:
        fit = self._fit()
        if self._world.weather.fair or not fit:
            return
        front, kind = self._chances.choice(fit), self._chances.choice(("crash", "crash", "freeze", "drain"))
        self._world.weather.counts[f"gateway {kind}"] += 1
        self._world.ledger.note(f"fault: {kind} of {front.process.name}")
        if kind == "crash":
            front.kill()
        elif kind == "drain":
            front.drain()
        else:
            front.process.freeze()
            self._world.loop.call_later(self._chances.uniform(0.3, 8.0), front.process.thaw, context=EMPTY)
