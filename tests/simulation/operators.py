"""Operators at the dead letters: `fleet.redrive`, as its command runs it, while everything goes wrong around them.

Each command is a process of its own, on the twins. It may be ended in the middle, said again, or said by two at once.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from broker.memory import MemoryScan
from broker.port import BrokerUnavailable, Extent, PublishError, PublishUnknown, Record, Scan
from fleet import redrive
from fleet.letter import DEAD_LETTERS, Letter, Wanted, deduplicated, read_letter
from fleet.redrive import Act, Choice, Office, Redriven
from journal.memory_parts import MemoryLetterMarks
from journal.port import COMPLETED, LetterMark, StoreUnavailable
from schemas.codes import Code
from schemas.dead_letter import FAULTS
from tests.simulation.faulty import FaultyPublisher
from tests.simulation.front import front_store
from tests.simulation.ledger import CONTROL, TURNS
from tests.simulation.virtual import EMPTY, Process
from tests.simulation.weather import Weather

if TYPE_CHECKING:
    from tests.simulation.world import World

COMMANDS_A_TURN = 0.06
ENDED = 0.2  # of the commands, in the middle
UNREACHABLE = (BrokerUnavailable, StoreUnavailable, PublishError, PublishUnknown)


class Command(NamedTuple):
    """What is done with which letters."""

    act: str
    choice: Choice

    @property
    def does(self) -> Act:
        return redrive.redrive if self.act == "redrive" else redrive.discard


@dataclass(slots=True)
class Done:
    """A command that came to its end: what it said, and between which events it ran."""

    since: int
    until: int = 0
    said: list[Redriven] = field(default_factory=list)


class SlowScan:
    """The scan port: batches come a little later."""

    def __init__(self, twin: Scan, weather: Weather) -> None:
        self._twin = twin
        self._weather = weather

    async def extent(self, topic: str, group: str | None = None) -> Extent:
        return await self._twin.extent(topic, group)

    async def read(self, topic: str) -> AsyncIterator[Sequence[Record]]:
        async for records in self._twin.read(topic):
            await asyncio.sleep(self._weather.delay_s())
            yield records


class Operators:
    """`done`: commands that told what became of their letters."""

    def __init__(self, seed: int, world: World) -> None:
        self._world = world
        self._seed = seed
        self._chances = random.Random(f"operators {seed}")
        self._names = itertools.count(1)
        self._finished = False
        self._processes: list[Process] = []
        self.done: list[Done] = []

    def schedule(self) -> None:
        """All commands of the run, by moment."""
        world, chances = self._world, self._chances
        for _ in range(max(2, round(len(world.plan.turns) * COMMANDS_A_TURN))):
            at_s = chances.uniform(0.2, 1.0) * world.plan.span_s
            for later_s in (0.0, *chances.choice(((), (), (0.0,), (0.0, 0.05), (chances.uniform(0.01, 3.0),)))):
                world.loop.call_later(at_s + later_s, self._think, f"{self._seed} {at_s}", context=EMPTY)

    def finish(self) -> None:
        """All is well: poisonous turns are dealt with, and what was begun is said again until it is out."""
        self._world.loop.create_task(self._finish())

    @property
    def quiet(self) -> bool:
        """Nothing is half done."""
        return self._finished

    def letters(self) -> list[Letter]:
        """All of the topic, each once."""
        cluster = self._world.cluster
        logs = [cluster.log(DEAD_LETTERS, n) for n in range(cluster.topics[DEAD_LETTERS].partitions)]
        found = [read_letter(record) for log in logs for record in log.records]
        return deduplicated([letter for letter in found if letter is not None])

    @property
    def marks(self) -> dict[str, LetterMark]:
        """What the store holds."""
        assert isinstance(self._world.store.letters, MemoryLetterMarks)
        return self._world.store.letters._marks

    # ---- inside

    def _think(self, of: str) -> None:
        """Those who say the same mean the same: `of`."""
        if not self._world.weather.fair and (command := self._drawn(random.Random(of))):
            self._begin(command)

    def _drawn(self, chances: random.Random) -> Command | None:
        letters = self.letters()
        if not letters:
            return None
        poison = [letter for letter in letters if letter.head.code is Code.POISON]
        one = chances.choice(poison if poison and chances.random() < 0.7 else letters)
        choice = chances.choice(
            (
                Choice(None, Wanted()),
                Choice(None, Wanted(codes=FAULTS)),
                Choice(None, Wanted(codes=frozenset({Code.POISON}))),
                Choice(None, Wanted(session=one.session)),
                Choice((one.id,), Wanted()),
                Choice((one.id, chances.choice(letters).id, "agent.turns/9@9"), Wanted()),
            )
        )
        every = choice.ids is None and choice.wanted.session is None
        share = 0.5 if one in poison else 0.3
        return Command("discard" if not every and chances.random() < share else "redrive", choice)

    def _begin(self, command: Command) -> asyncio.Task[bool]:
        world = self._world
        process = Process(world.loop, f"o{next(self._names)}")
        self._processes.append(process)
        world.weather.counts[command.act] += 1
        world.ledger.note(f"{process.name} begins to {command.act} {_spelled(command.choice)}")
        if world.weather.happens("command ended", ENDED):
            world.loop.call_later(self._chances.uniform(0.0, 0.3), process.kill, context=EMPTY)
        return world.loop.create_task(self._run(process, command), context=process.context)

    async def _run(self, process: Process, command: Command) -> bool:
        """Whether it came to its end."""
        world, done = self._world, Done(self._world.ledger.events)
        publisher = FaultyPublisher(world.cluster, (TURNS, CONTROL), world.loop, process, world.weather)
        store = front_store(world.store, world.journal, world.loop, world.weather)
        scan = SlowScan(MemoryScan(world.cluster), world.weather)
        try:
            await publisher.start()
            office = Office(scan, publisher, store, lambda: world.clock_ms(0))
            done.said, _ = await redrive.carry_out(office, command.choice, command.does)
        except UNREACHABLE as error:
            world.ledger.note(f"{process.name} is told: do it again ({error})")
            return False
        finally:
            await publisher.stop()
        done.until = world.ledger.events
        self.done.append(done)
        told = ", ".join(f"{one.letter} {one.state}{' now' if one.published else ''}" for one in done.said)
        world.ledger.note(f"{process.name} is done: {told}")
        return True

    async def _finish(self) -> None:
        for letter in self.letters():
            if letter.id not in self.marks and letter.head.code is Code.POISON:
                act = self._chances.choice(("redrive", "discard"))
                await self._begin(Command(act, Choice((letter.id,), Wanted())))
        while begun := [mark for mark in self.marks.values() if mark.state in COMPLETED]:
            for act, state in (("redrive", "redriving"), ("discard", "discarding")):
                if ids := tuple(mark.letter for mark in begun if mark.state == state):
                    await self._begin(Command(act, Choice(ids, Wanted())))
            await asyncio.sleep(0.5)
        self._finished = True


def _spelled(choice: Choice) -> str:
    if choice.ids is not None:
        return " ".join(choice.ids)
    return f"all of {choice.wanted.session or 'any session'} {' '.join(sorted(choice.wanted.codes))}"
