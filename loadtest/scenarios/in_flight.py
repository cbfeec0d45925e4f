"""2,000 turns in flight in one worker, each waiting 5 s for the scripted model: is the rate kept, does the worker stay
in its group, what does a waiting turn hold."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from loadtest.bench import Bench, Product, metrics, total
from loadtest.figures import Spread
from loadtest.generator import Run, run_open
from loadtest.result import Chart, Figure, Outcome
from loadtest.scenarios.parts import faults
from loadtest.schedule import arrivals, sessions
from loadtest.workload import Prompt

IN_FLIGHT = 2_000
TURN_S = 5.0
SECONDS = 15.0
RAMP_S = 8.0
SESSIONS = 3_000
KIB = 1024


async def measure(bench: Bench) -> Outcome:
    """Each repetition has a worker of its own, so that memory is counted from a fresh one."""
    runs: list[Run] = []
    memory: list[float] = []
    rebalances: list[float] = []
    shown: list[list[float]] = []
    missing: list[str] = []
    async with bench.model() as (model_url, _):
        settings = {"model_url": model_url, "model": "scripted", "model_key": "none", "agent": "chat"}
        settings["worker_slots"] = str(IN_FLIGHT + 500)
        for repetition in range(bench.plan.repetitions):
            async with bench.product(settings) as product:
                product.lane.pause_s = 0.02
                before = await _rebalances(product)
                await _run(bench, product, f"w{repetition}", seconds=0.25, ramp_s=0.0)
                low, samples, stop = product.worker.cost().rss_bytes, list[float](), asyncio.Event()
                watch = asyncio.create_task(_watch(product, samples, stop))
                runs.append(await _run(bench, product, f"f{repetition}", seconds=RAMP_S + SECONDS, ramp_s=RAMP_S))
                stop.set()
                await watch
                memory.append((max(samples) * KIB - low) / IN_FLIGHT / KIB)
                shown.append(samples)
                after = await _rebalances(product)
                if before is None or after is None:
                    missing.append("the worker's /metrics show no count of rebalances")
                else:
                    rebalances.append(after - before)
    kept = [run.achieved_rate / run.offered_rate * 100 for run in runs]
    figures = [
        Figure("achieved / offered", "%", Spread.of(kept), target=99.0),
        Figure("memory a turn in flight", "KiB", Spread.of(memory), "low", target=64.0),
        Figure("p50 of a turn", "ms", Spread.of([run.from_intended.p50_ms for run in runs]), "low"),
        Figure("p99 of a turn", "ms", Spread.of([run.from_intended.p99_ms for run in runs]), "low"),
    ]
    if rebalances:
        figures.insert(0, Figure("rebalances during the run", "", Spread.of(rebalances), "low", target=0.0))
    return Outcome(
        "in-flight",
        f"{IN_FLIGHT:,} turns in flight in one worker",
        f"open loop, {IN_FLIGHT / TURN_S:g} turns a second of {TURN_S:g} s each (5 tokens), {SESSIONS:,} sessions",
        figures=figures,
        charts=[
            Chart(
                "Resident memory of the worker over the run",
                "MiB",
                [f"{number / 2:g} s" for number in range(len(shown[-1]))],
                {"worker": [kib / KIB for kib in shown[-1]]},
                "lines",
            )
        ],
        runs=[asdict(run) for run in runs],
        faults=missing + [line for run in runs for line in faults("product", run)],
    )


async def _run(bench: Bench, product: Product, name: str, *, seconds: float, ramp_s: float) -> Run:
    keys = sessions(SESSIONS, kind="rounds", seed=bench.plan.seed)
    workload = Prompt(name, keys, tokens=5, rate=1.0, first_ms=1000.0)
    times = arrivals(IN_FLIGHT / TURN_S, kind="constant", seed=bench.plan.seed)
    return await run_open(product.lane, workload, times, seconds=seconds, ramp_s=ramp_s)


async def _watch(product: Product, samples_kib: list[float], stop: asyncio.Event) -> None:
    while not stop.is_set():
        samples_kib.append(product.worker.cost().rss_bytes / KIB)
        await asyncio.sleep(0.5)


async def _rebalances(product: Product) -> float | None:
    samples = await metrics(product.worker_url)
    names = {name.partition("{")[0] for name in samples if "rebalance" in name and "_created" not in name}
    found = [total(samples, name) for name in sorted(names)]
    return found[0] if found else None
