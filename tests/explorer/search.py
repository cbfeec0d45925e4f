"""Breadth first through everything that may happen; the shortest way to whatever breaks. Knows no promise."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest import mock

from tests.explorer.moves import SPENDS, Event, Moves
from tests.explorer.scope import Scope
from tests.explorer.store import Broken
from tests.explorer.words import words
from tests.explorer.world import World, first


@dataclass
class Report:
    """What was found. `verdict`: empty where nothing is wrong; `complete`: every world of the scope was seen; `events`:
    the way to what is wrong, `trace`: the same in words; `ends`: worlds in which nothing but a fault can happen."""

    verdict: str = ""
    states: int = 0
    seconds: float = 0.0
    complete: bool = False
    events: tuple[Event, ...] = ()
    trace: list[str] = field(default_factory=list)
    ends: int = 0

    def __str__(self) -> str:
        found = self.verdict or ("nothing wrong" if self.complete else "nothing wrong up to the limit")
        lines = [f"{found} [{self.states:,} states, {self.seconds:.1f} s]"]
        lines += [f"  {number:2} {line}" for number, line in enumerate(self.trace, 1)]
        return "\n".join(lines)

    @property
    def moves(self) -> str:
        """The way in short, for `events_of`."""
        return moves_of(self.events)


def moves_of(events: Iterable[Event]) -> str:
    """A way in short."""
    return " ".join(f"{what}/{worker}/{which}" for what, worker, which in events)


def events_of(moves: str) -> tuple[Event, ...]:
    """The reverse."""
    return tuple((what, int(worker), int(which)) for what, worker, which in (it.split("/") for it in moves.split()))


class Search:
    """One exploration. Worlds are numbered in the order in which they were met."""

    def __init__(self, scope: Scope, limit: int) -> None:
        self.scope = scope
        self.limit = limit
        self.moves = Moves(scope)
        self._numbers: dict[World, int] = {}
        self._parents = array("i")
        self._events: list[Event | None] = []
        self._before = array("i")  # pairs: a world, one that leads to it without a fault
        self._ways = array("i")  # how many such ways lead on from each world

    def explore(self) -> Report:
        """Until something breaks, everything was seen or the limit is reached."""
        self._meet(first(self.scope), -1, None)
        layer = list(self._numbers)
        while layer:
            following: list[World] = []
            for world in layer:
                report = self._expand(world, following)
                if report is not None:
                    return self._sized(report)
            if len(self._numbers) > self.limit:
                return self._sized(Report())
            layer = following
        return self._sized(self._endless() or Report(complete=True))

    def _sized(self, report: Report) -> Report:
        report.states, report.ends = len(self._numbers), self._ways.count(0)
        return report

    def _meet(self, world: World, parent: int, event: Event | None) -> int:
        number = self._numbers[world] = len(self._parents)
        self._parents.append(parent)
        self._events.append(event)
        return number

    def _expand(self, world: World, following: list[World]) -> Report | None:
        number, numbers, moves, ways = self._numbers[world], self._numbers, self.moves, 0
        for event in moves.events(world):
            try:
                new = moves.after(world, event)
            except Broken as error:
                return retold(self.scope, (*self._way(number), event), str(error))
            met = numbers.get(new)
            if met is None:
                met = self._meet(new, number, event)
                following.append(new)
            if event[0] not in SPENDS:
                ways += 1
                self._before.extend((met, number))
        self._ways.append(ways)
        if not ways and (left := _nothing_more(moves, world)):
            return retold(self.scope, self._way(number), left)
        return None

    def _endless(self) -> Report | None:
        """A world from which, without another fault, not every way leads to an end; the ends are settled ones."""
        before: list[list[int]] = [[] for _ in self._parents]
        pairs = iter(self._before)
        for after, number in zip(pairs, pairs, strict=True):
            before[after].append(number)
        left, fine = self._ways[:], [number for number, ways in enumerate(self._ways) if not ways]
        while fine:
            for number in before[fine.pop()]:
                left[number] -= 1
                if not left[number]:
                    fine.append(number)
        endless = next((number for number, ways in enumerate(left) if ways), None)
        if endless is None:
            return None
        way, number = [*self._way(endless)], endless
        worlds, met = list(self._numbers), {endless}
        while True:  # every world that is left leads to another one that is left
            world = worlds[number]
            for event in self.moves.events(world):
                number = self._numbers[self.moves.after(world, event)]
                if event[0] not in SPENDS and left[number]:
                    break
            way.append(event)
            if number in met:
                return retold(self.scope, way, "it may go round for ever and is never settled")
            met.add(number)

    def _way(self, number: int) -> tuple[Event, ...]:
        events = []
        while (event := self._events[number]) is not None:
            events.append(event)
            number = self._parents[number]
        return tuple(reversed(events))


def retold(scope: Scope, events: Iterable[Event], verdict: str = "") -> Report:
    """Go one way only, and tell it in words. `verdict`: empty: what is wrong at its end, if something is. Raises
    ValueError where an event cannot happen."""
    began = time.perf_counter()
    report = Report(verdict)
    with _small_memory(scope):
        moves, world = Moves(scope), first(scope)
        for event in events:
            if event not in moves.events(world):
                raise ValueError(f"{moves_of([event])} cannot happen after: {report.moves}")
            report.events = (*report.events, event)
            new, broken = _after(moves, world, event)
            report.trace.append(words(moves, world, event, new))
            report.states += 1
            if new is None:
                report.verdict = broken
                break
            world = new
        else:
            report.verdict = report.verdict or _nothing_more(moves, world)
    report.seconds = time.perf_counter() - began
    return report


def _after(moves: Moves, world: World, event: Event) -> tuple[World | None, str]:
    try:
        return moves.after(world, event), ""
    except Broken as error:
        return None, str(error)


def _nothing_more(moves: Moves, world: World) -> str:
    """What is left undone where nothing but a fault can happen."""
    if any(event[0] not in SPENDS for event in moves.events(world)):
        return ""
    left = moves.left(world)
    return f"nothing more happens: {left}" if left else ""


def explore(scope: Scope, limit: int = 1_000_000) -> Report:
    """What there is to find in `scope`."""
    began = time.perf_counter()
    with _small_memory(scope):
        report = Search(scope, limit).explore()
    report.seconds = time.perf_counter() - began
    return report


@contextmanager
def _small_memory(scope: Scope) -> Iterator[None]:
    most = mock.patch("workers.holdings.ASIDE_LIMIT", scope.most_aside)
    with most, mock.patch("journal.fold.REMEMBERED_TURNS", scope.remembers):
        yield
