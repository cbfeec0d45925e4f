"""What several scenarios need: the faults of a run in sentences, the cost of processes over a run."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from loadtest.generator import Run
from loadtest.processes import Child


@dataclass(frozen=True, slots=True)
class Costed:
    """A run and the CPU microseconds per answered turn of each process that was watched."""

    run: Run
    cpu_us: dict[str, float]

    def as_dict(self, **more: object) -> dict[str, Any]:
        return {**more, "cpu_us_a_turn": self.cpu_us, **asdict(self.run)}


async def costed(run: Awaitable[Run], **watched: Child | None) -> Costed:
    """Await `run`; CPU of a part counts all of its turns, ramp and rest included. `load` is this process, `machine` all
    that ran on it: what is missing between the parts and the machine was used by others."""
    before = _cpu_s(watched)
    done = await run
    answered = max(done.verdict.sent - done.verdict.unanswered, 1)
    after = _cpu_s(watched)
    return Costed(done, {name: round((after[name] - cpu_s) / answered * 1e6, 1) for name, cpu_s in before.items()})


def _cpu_s(watched: Mapping[str, Child | None]) -> dict[str, float]:
    """CPU seconds of each part, of the load itself, and of the whole machine."""
    found = {name: child.cost().cpu_s for name, child in watched.items() if child is not None}
    whole = psutil.cpu_times()
    return found | {"load": time.process_time(), "machine": sum(whole) - whole.idle - getattr(whole, "iowait", 0.0)}


def faults(side: str, run: Run) -> list[str]:
    """What was wrong with the answers of this run; a run without a single answer is wrong as well."""
    verdict = run.verdict
    found = [f"{side}: {count} × {kind}, e.g. {verdict.examples[kind]}" for kind, count in verdict.faults.items()]
    if verdict.unanswered:
        found.append(f"{side}: {verdict.unanswered} of {verdict.sent} turns were not answered")
    if not verdict.completed:
        found.append(f"{side}: no turn was completed")
    return found
