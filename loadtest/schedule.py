"""When turns arrive and whose they are, decided before the run by a seed. Pure: knows no clock and no network."""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Iterator
from typing import Literal

Arrivals = Literal["constant", "poisson"]
Popularity = Literal["uniform", "zipf", "rounds"]


def arrivals(rate: float, *, kind: Arrivals, seed: int) -> Iterator[float]:
    """Endless intended starts in seconds from the start of the run, `rate` a second on average, never falling."""
    if rate <= 0:
        raise ValueError(f"rate must be above 0, got {rate}")
    if kind == "constant":
        yield from (i / rate for i in itertools.count())
    rng, at_s = random.Random(seed), 0.0
    while True:
        at_s += rng.expovariate(rate)
        yield at_s


def sessions(count: int, *, kind: Popularity, seed: int, exponent: float = 1.1) -> Iterator[int]:
    """Endless session numbers in 0..count-1: `uniform`, `zipf` (number 0 is the busiest) or `rounds` (one after the
    other, so that each has the same number of turns)."""
    if count < 1:
        raise ValueError(f"there must be a session, got {count}")
    if kind == "rounds":
        yield from itertools.cycle(range(count))
    rng = random.Random(seed)
    if kind == "uniform":
        while True:
            yield rng.randrange(count)
    weights = list(itertools.accumulate(1 / (rank + 1) ** exponent for rank in range(count)))
    while True:
        yield bisect.bisect_left(weights, rng.random() * weights[-1])
