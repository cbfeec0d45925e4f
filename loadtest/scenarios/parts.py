"""What several scenarios need: the faults of a run in sentences, the cost of processes over a run."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from loadtest.answers import Request
from loadtest.figures import Latency, Spread
from loadtest.generator import Heard, Lane, Run
from loadtest.processes import Child
from loadtest.result import Figure


@dataclass(frozen=True, slots=True)
class Costed:
    """A run, the CPU microseconds per answered turn of each process that was watched, and how many cores processes that
    are none of ours used meanwhile."""

    run: Run
    cpu_us: dict[str, float]
    others_cores: float

    def as_dict(self, **more: object) -> dict[str, Any]:
        return {**more, "cpu_us_a_turn": self.cpu_us, "others_cores": self.others_cores, **asdict(self.run)}


class Beside:
    """A lane for the usual load, beside which a scenario listens to all frames as well."""

    def __init__(self, lane: Lane, also: Heard) -> None:
        self._lane = lane
        self._also = also

    def listen(self, heard: Heard) -> None:
        also = self._also

        def both(frame: Mapping[str, Any], at_s: float) -> None:
            also(frame, at_s)
            heard(frame, at_s)

        self._lane.listen(both)

    def submit(self, request: Request, agent: str) -> None:
        self._lane.submit(request, agent)


async def costed(run: Awaitable[Run], **watched: Child | None) -> Costed:
    """Await `run`; CPU of a part counts all of its turns, ramp and rest included; `load` is this process."""
    begun_s, machine_s, before = time.monotonic(), _machine_s(), _cpu_s(watched)
    done = await run
    used_s = {name: cpu_s - before[name] for name, cpu_s in _cpu_s(watched).items()}
    others = (_machine_s() - machine_s - sum(used_s.values())) / (time.monotonic() - begun_s)
    answered = max(done.verdict.sent - done.verdict.unanswered, 1)
    return Costed(done, {name: round(s / answered * 1e6, 1) for name, s in used_s.items()}, round(max(others, 0.0), 2))


def low(name: str, unit: str, values: Iterable[float], target: float | None = None) -> Figure:
    """A figure that should be small, one value for each repetition."""
    return Figure(name, unit, Spread.of(list(values)), "low", target=target)


def ladder(name: str, latencies: Sequence[Latency], target_ms: float | None = None) -> list[Figure]:
    """p50, p99 (with a target) and the longest, each over the repetitions."""
    return [
        low(f"{name}, p50", "ms", [told.p50_ms for told in latencies]),
        low(f"{name}, p99", "ms", [told.p99_ms for told in latencies], target_ms),
        low(f"{name}, longest", "ms", [told.max_ms for told in latencies]),
    ]


def others(runs: Iterable[Costed]) -> Figure:
    """How quiet the machine was: with much of this the absolute figures say little."""
    return Figure("cores used by other processes", "", Spread.of([done.others_cores for done in runs]), "low")


def _machine_s() -> float:
    whole = psutil.cpu_times()
    return float(sum(whole) - whole.idle - getattr(whole, "iowait", 0.0))


def _cpu_s(watched: Mapping[str, Child | None]) -> dict[str, float]:
    """CPU seconds of each part and of the load itself."""
    found = {name: child.cost().cpu_s for name, child in watched.items() if child is not None}
    return found | {"load": time.process_time()}


def faults(side: str, run: Run) -> list[str]:
    """What was wrong with the answers of this run; a run without a single answer is wrong as well."""
    verdict = run.verdict
    found = [f"{side}: {count} × {kind}, e.g. {verdict.examples[kind]}" for kind, count in verdict.faults.items()]
    if verdict.unanswered:
        found.append(f"{side}: {verdict.unanswered} of {verdict.sent} turns were not answered")
    if not verdict.completed:
        found.append(f"{side}: no turn was completed")
    return found
