"""A rolling restart under load: two workers, each in its turn stopped by SIGTERM and started again, against the same
load left alone. What is asked: no turn fails, and how much later the answers come."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass

from loadtest.bench import Bench, Product
from loadtest.figures import Spread
from loadtest.generator import Run, run_open
from loadtest.processes import Child
from loadtest.result import Chart, Figure, Outcome
from loadtest.scenarios.parts import faults
from loadtest.schedule import arrivals, sessions
from loadtest.workload import Prompt

RATE = 40.0
SESSIONS = 400
TOKENS, TOKENS_S = 40, 100.0
SECONDS = 30.0
STEADY_S = 5.0
"""Of load before the first stop, and between a worker that is ready again and the next one."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The same load without and with a restart of both workers. `drained_s`: from SIGTERM to the end of each."""

    alone: Run
    restarted: Run
    drained_s: tuple[float, ...]
    codes: tuple[int, ...]

    @property
    def later_ms(self) -> float:
        return self.restarted.from_intended.p99_ms - self.alone.from_intended.p99_ms


async def measure(bench: Bench) -> Outcome:
    """One pair for each repetition, on the same workers."""
    async with bench.model() as (model_url, _):
        settings = {"model_url": model_url, "model": "scripted", "model_key": "none", "agent": "chat"}
        async with bench.product(settings) as product:
            workers = [product.worker, await bench.another(product)]
            pairs = [await _pair(bench, product, workers, f"r{n}") for n in range(bench.plan.repetitions)]
            for worker in workers:
                await bench.stack.end(worker)
    return Outcome(
        "rolling-restart",
        "Both workers restarted, one after the other, under load",
        f"{RATE:g} turns/s of {TOKENS} tokens ({TOKENS / TOKENS_S:g} s), {SESSIONS} sessions, default settings",
        figures=(
            Figure("failed turns", "", Spread.of([_failed(pair.restarted) for pair in pairs]), "low", target=0),
            Figure("p99 of a turn, later by", "ms", Spread.of([p.later_ms for p in pairs]), "low", target=1_000),
            Figure("p99 of a turn, left alone", "ms", Spread.of([p.alone.from_intended.p99_ms for p in pairs]), "low"),
            Figure("p99 of a turn, restart", "ms", Spread.of([p.restarted.from_intended.p99_ms for p in pairs]), "low"),
            Figure("longest turn, restart", "ms", Spread.of([p.restarted.from_intended.max_ms for p in pairs]), "low"),
            Figure("SIGTERM until the worker is gone", "s", Spread.of([s for p in pairs for s in p.drained_s]), "low"),
        ),
        charts=(
            Chart(
                "Latency of a turn",
                "ms",
                ["p50", "p90", "p99", "p99.9", "longest"],
                {"left alone": _ladder(pairs[0].alone), "restart": _ladder(pairs[0].restarted)},
            ),
        ),
        runs=[asdict(pair) for pair in pairs],
        faults=[line for pair in pairs for line in _faults(pair)],
    )


async def _pair(bench: Bench, product: Product, workers: list[Child], name: str) -> Pair:
    alone = await _load(bench, product, f"{name}a")
    loading = asyncio.create_task(_load(bench, product, f"{name}b"), name="load")
    drained_s, codes = [], []
    for place in range(len(workers)):
        await asyncio.sleep(STEADY_S)
        begun_s = time.monotonic()
        codes.append(await bench.stack.end(workers[place], timeout_s=40.0))
        drained_s.append(round(time.monotonic() - begun_s, 3))
        workers[place] = await bench.another(product)
    return Pair(alone, await loading, tuple(drained_s), tuple(codes))


async def _load(bench: Bench, product: Product, name: str) -> Run:
    seed = bench.plan.seed
    keys = sessions(SESSIONS, kind="uniform", seed=seed)
    workload = Prompt(name, keys, tokens=TOKENS, rate=TOKENS_S, first_ms=50.0)
    times = arrivals(RATE, kind="poisson", seed=seed)
    return await run_open(product.lane, workload, times, seconds=SECONDS * max(bench.plan.scale, 1.0))


def _failed(run: Run) -> float:
    return float(run.verdict.sent - run.verdict.completed)


def _ladder(run: Run) -> list[float]:
    told = run.from_intended
    return [told.p50_ms, told.p90_ms, told.p99_ms, told.p999_ms, told.max_ms]


def _faults(pair: Pair) -> list[str]:
    found = [*faults("left alone", pair.alone), *faults("restart", pair.restarted)]
    return found + [f"a worker ended with exit code {code} on SIGTERM" for code in pair.codes if code]
