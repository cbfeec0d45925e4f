"""A corpus of which 1 % is poison against the same corpus without it: what others notice, and where the poison ends.
Poison that ends its worker is a scenario apart, `deadly`: each costs a restart and a take-over three times."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

from loadtest.bench import Bench, Product
from loadtest.dead_letters import read
from loadtest.figures import Spread
from loadtest.generator import Run, run_open
from loadtest.kept import NAME, Kept
from loadtest.poisons import DEADLY, HARMLESS, Fates, Make, Plan, Poison, corpus
from loadtest.result import Figure, Outcome
from loadtest.scenarios.parts import Beside, faults, low
from loadtest.schedule import arrivals, sessions
from loadtest.waiting import until
from loadtest.workload import Prompt

WORKERS = 2
RATE, SESSIONS, SECONDS = 40.0, 400, 20.0
SHARE = 0.01
TOKENS, TOKENS_S = 40, 100.0
DEADLINE_S = 3.0
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Corpus:
    """One run. `poison`: how many of each kind; `restarts`: of workers; `found`: what is not as it must be."""

    others: Run
    poison: Mapping[str, int]
    restarts: int
    found: tuple[str, ...]


async def measure(bench: Bench) -> Outcome:
    """Pairs of both corpora."""
    return await compare(bench, Scenario("poison", "A corpus of which 1 % is poison", HARMLESS, DEADLINE_S, spread))


async def measure_deadly(bench: Bench) -> Outcome:
    """Pairs as well, but with one poison of each kind only."""
    name = "Turns that end their worker, three times each"
    return await compare(bench, Scenario("deadly", name, DEADLY, 300.0, lambda seconds: [1.0, 1.0 + seconds / 2]))


def spread(seconds: float) -> list[float]:
    """One poison for every hundred turns."""
    due = itertools.count(0.5, 1 / (RATE * SHARE))
    return list(itertools.takewhile(lambda due_s: due_s < seconds, due))


class Scenario(NamedTuple):
    """Which poison, when, with which deadline."""

    name: str
    title: str
    kinds: Mapping[str, Make]
    deadline_s: float
    times: Callable[[float], list[float]]


async def compare(bench: Bench, scenario: Scenario) -> Outcome:
    """All on the same two workers, which are started again when they end."""
    pairs: list[tuple[Corpus, Corpus]] = []
    async with bench.model() as (model_url, _):
        settings = {"model_url": model_url, "model": "scripted", "model_key": "none", "agent": "chat"}
        settings |= {"agents": "fleet.chaos.poisons:agents", "worker_name": f"{NAME}0"}
        async with bench.product(settings) as product, Kept(bench, product, WORKERS) as kept:
            await _load(bench, product, Prompts("warm"), seconds=5.0)
            for number in range(bench.plan.repetitions):
                clean = await _run(bench, product, kept, f"r{number}a", scenario._replace(times=lambda _: []))
                pairs.append((clean, await _run(bench, product, kept, f"r{number}b", scenario)))
    ratio = [after.others.from_intended.p99_ms / before.others.from_intended.p99_ms for before, after in pairs]
    poisoned = [after for _, after in pairs]
    return Outcome(
        scenario.name,
        scenario.title,
        f"{RATE:g} turns/s of {TOKENS / TOKENS_S:g} s, {SESSIONS} sessions, {WORKERS} workers; "
        + ", ".join(scenario.kinds),
        figures=[
            Figure("others' p99, with poison / without", "×", Spread.of(ratio), "low", target=1.1),
            *_others("without", [before for before, _ in pairs]),
            *_others("with poison", poisoned),
            low("poison", "", [sum(run.poison.values()) for run in poisoned]),
            low("of it, not ended as it must", "", [len(run.found) for run in poisoned], 0),
            low("workers that were started again", "", [run.restarts for run in poisoned]),
        ],
        runs=[asdict(run) for pair in pairs for run in pair],
        faults=[line for pair in pairs for run in pair for line in (*faults("others", run.others), *run.found)],
    )


class Prompts(Prompt):
    """The others' turns of one run."""

    def __init__(self, run: str) -> None:
        keys = sessions(SESSIONS, kind="uniform", seed=1)
        super().__init__(run, keys, tokens=TOKENS, rate=TOKENS_S, first_ms=50.0)


async def _run(bench: Bench, product: Product, kept: Kept, name: str, scenario: Scenario) -> Corpus:
    seconds = SECONDS * bench.plan.scale
    plan = Plan(name, SESSIONS, scenario.deadline_s, time.time_ns() // 1_000_000)
    poison = list(corpus(plan, scenario.kinds, scenario.times(seconds), seed=bench.plan.seed))
    fates, before = Fates(), kept.ended
    loading = asyncio.create_task(_load(bench, product, Prompts(name), seconds=seconds, fates=fates), name="load")
    await _publish(product, poison)
    others = await loading
    await until(lambda: not fates.outstanding(poison), timeout_s=PATIENCE_S)
    letters = await read(bench.stack.bootstrap, f"{product.env['FLEET_TOPIC_PREFIX']}agent.dead-letters")
    counts = Counter(one.kind for one in poison)
    return Corpus(others, counts, kept.ended - before, tuple(fates.faults(poison, letters)))


async def _publish(product: Product, poison: list[Poison]) -> None:
    start_s = time.monotonic()
    for one in poison:
        await asyncio.sleep(max(0.0, start_s + one.due_s - time.monotonic()))
        product.lane.record(one.key, one.value)


async def _load(bench: Bench, product: Product, prompts: Prompts, *, seconds: float, fates: Fates | None = None) -> Run:
    lane = Beside(product.lane, (fates or Fates()).heard)
    times = arrivals(RATE, kind="poisson", seed=bench.plan.seed)
    return await run_open(lane, prompts, times, seconds=seconds, grace_s=60.0)


def _others(what: str, runs: list[Corpus]) -> list[Figure]:
    told = [run.others.from_intended for run in runs]
    return [
        low(f"others' p50, {what}", "ms", [one.p50_ms for one in told]),
        low(f"others' p99, {what}", "ms", [one.p99_ms for one in told]),
        low(f"others' longest, {what}", "ms", [one.max_ms for one in told]),
    ]
