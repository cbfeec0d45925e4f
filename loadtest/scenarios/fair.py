"""A session with 10,000 queued turns among 300 others in one worker: what the others notice of it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import orjson

from loadtest.answers import Request
from loadtest.bench import Bench, Product
from loadtest.figures import Spread
from loadtest.generator import Run, run_open
from loadtest.result import Figure, Outcome
from loadtest.scenarios.parts import faults
from loadtest.schedule import arrivals, sessions
from loadtest.workload import Prompt

HOG_TURNS = 10_000
BURST_S = 3.0
SESSIONS = 300
RATE = 100.0
SECONDS = 20.0
TOKENS, TOKENS_S, FIRST_MS = 5, 25.0, 100.0


async def measure(bench: Bench) -> Outcome:
    """Each run has a worker of its own: with the hog, without it, and again."""
    alone: list[Run] = []
    beside: list[Run] = []
    async with bench.model() as (model_url, _):
        settings = {"model_url": model_url, "model": "scripted", "model_key": "none", "agent": "chat"}
        for repetition in range(bench.plan.repetitions):
            for runs, hog in ((alone, False), (beside, True)):
                async with bench.product(settings) as product:
                    await _run(bench, product, f"w{repetition}", seconds=2.0)
                    if hog:
                        await _publish_hog(product)
                    runs.append(await _run(bench, product, f"f{repetition}", seconds=SECONDS * bench.plan.scale))
    pairs = list(zip(alone, beside, strict=True))
    return Outcome(
        "fair",
        f"One session with {HOG_TURNS:,} queued turns among {SESSIONS} others",
        f"open loop, {RATE:g} turns a second of some 300 ms each over {SESSIONS} sessions, one worker",
        figures=[
            Figure(
                "others' p99 beside the hog / alone",
                "",
                Spread.of([with_it.from_intended.p99_ms / without.from_intended.p99_ms for without, with_it in pairs]),
                "low",
                target=1.1,
            ),
            Figure("others' p99, alone", "ms", Spread.of([run.from_intended.p99_ms for run in alone]), "low"),
            Figure("others' p99, beside the hog", "ms", Spread.of([run.from_intended.p99_ms for run in beside]), "low"),
            Figure("others' slowest, beside the hog", "ms", Spread.of([r.from_intended.max_ms for r in beside]), "low"),
        ],
        runs=[asdict(run) for pair in pairs for run in pair],
        faults=[line for pair in pairs for run in pair for line in faults("product", run)],
    )


async def _run(bench: Bench, product: Product, name: str, *, seconds: float) -> Run:
    keys = sessions(SESSIONS, kind="rounds", seed=bench.plan.seed)
    workload = Prompt(name, keys, tokens=TOKENS, rate=TOKENS_S, first_ms=FIRST_MS)
    times = arrivals(RATE, kind="poisson", seed=bench.plan.seed)
    return await run_open(product.lane, workload, times, seconds=seconds)


async def _publish_hog(product: Product) -> None:
    """All of it before the others' turns that are measured: the figure is that of a queue, not of the burst."""
    text = orjson.dumps({"tokens": TOKENS, "rate": TOKENS_S, "first_ms": FIRST_MS}).decode()
    for number in range(HOG_TURNS):
        product.lane.submit(Request("hog", f"hog.{number}", text, "", number, 0.0), "chat")
    await asyncio.sleep(BURST_S)
