"""What a scenario hands to the report: figures with their spread and target, charts, raw runs. Pure data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from loadtest.figures import Spread


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its repetitions. `target` and `goal` are limits on the side that `better` names; None: the
    figure is for orientation only."""

    name: str
    unit: str
    spread: Spread
    better: Literal["high", "low"] = "high"
    target: float | None = None
    goal: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the median keeps the target."""
        return _keeps(self.spread.median, self.target, self.better)

    @property
    def reached_goal(self) -> bool | None:
        return _keeps(self.spread.median, self.goal, self.better)


@dataclass(frozen=True, slots=True)
class Chart:
    """Series over common labels (bars) or over numbers (lines)."""

    title: str
    unit: str
    labels: Sequence[str]
    series: Mapping[str, Sequence[float]]
    kind: Literal["bars", "lines"] = "bars"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scenario's result. `faults`: what was wrong with the answers or could not be measured, in sentences."""

    scenario: str
    title: str
    how: str
    figures: Sequence[Figure] = ()
    charts: Sequence[Chart] = ()
    runs: Sequence[Mapping[str, Any]] = ()
    faults: Sequence[str] = field(default_factory=tuple)


def _keeps(value: float, limit: float | None, better: Literal["high", "low"]) -> bool | None:
    if limit is None:
        return None
    return value >= limit if better == "high" else value <= limit
