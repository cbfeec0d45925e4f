"""Numbers about numbers: percentiles of one run, the spread of repeated runs. Knows nothing of what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0..1) of the sorted `ordered` do not exceed (nearest rank); nan of
    nothing."""
    if not ordered:
        return math.nan
    rank = math.ceil(share * len(ordered))
    return ordered[min(max(rank, 1), len(ordered)) - 1]


@dataclass(frozen=True, slots=True)
class Latency:
    """What one run's latencies look like, in milliseconds."""

    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    mean_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Summarise latencies given in seconds; every figure is nan when there are none."""
        ordered = sorted(seconds)
        p50, p90, p99, p999, most = (round(percentile(ordered, mark) * 1000, 3) for mark in (0.5, 0.9, 0.99, 0.999, 1))
        mean = math.fsum(ordered) / len(ordered) if ordered else math.nan
        return cls(len(ordered), p50, p90, p99, p999, most, round(mean * 1000, 3))


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over its repetitions; `values` in the order in which they were measured."""

    median: float
    low: float
    high: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Median, smallest and largest of `values`, which must not be empty."""
        ordered = sorted(values)
        middle = len(ordered) // 2
        median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
        return cls(median, ordered[0], ordered[-1], tuple(values))

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def ratios(upper: Sequence[float], lower: Sequence[float]) -> list[float]:
    """Quotients of what was measured next to each other: repetition i of `upper` by repetition i of `lower`."""
    return [a / b if b else math.nan for a, b in zip(upper, lower, strict=True)]
