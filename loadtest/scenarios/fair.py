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
    """Each run has a worker of its own: without the hog, with its turns queued before it, and arriving amid it."""
    alone: list[Run] = []
    beside: list[Run] = []
    amid: list[Run] = []
    async with bench.model() as (model_url, _):
        settings = {"model_url": model_url, "model": "scripted", "model_key": "none", "agent": "chat"}
        for repetition in range(bench.plan.repetitions):
            for runs, before_s in ((alone, None), (beside, BURST_S), (amid, -BURST_S)):
                async with bench.product(settings) as product:
                    runs.append(await measured(bench, product, f"f{repetition}", before_s))
    pairs = list(zip(alone, beside, amid, strict=True))
    return Outcome(
        "fair",
        f"One session with {HOG_TURNS:,} queued turns among {SESSIONS} others",
        f"open loop, {RATE:g} turns a second of some 300 ms each over {SESSIONS} sessions, one worker",
        figures=[
            Figure(
                "others' p99 beside the hog / alone",
                "",
                Spread.of([_p99(queued) / _p99(without) for without, queued, _ in pairs]),
                "low",
                target=1.1,
            ),
            Figure(
                "the same, its arrival among the 20 s",
                "",
                Spread.of([_p99(arriving) / _p99(without) for without, _, arriving in pairs]),
                "low",
                target=1.1,
            ),
            Figure("others' p99, alone", "ms", Spread.of([run.from_intended.p99_ms for run in alone]), "low"),
            Figure("others' p99, beside the hog", "ms", Spread.of([run.from_intended.p99_ms for run in beside]), "low"),
            Figure("others' slowest, beside the hog", "ms", Spread.of([r.from_intended.max_ms for r in beside]), "low"),
            Figure("others' p99, while it arrives", "ms", Spread.of([_p99(run) for run in amid]), "low"),
            Figure("others' slowest, while it arrives", "ms", Spread.of([r.from_intended.max_ms for r in amid]), "low"),
        ],
        runs=[asdict(run) for pair in pairs for run in pair],
        faults=[line for pair in pairs for run in pair for line in faults("product", run)],
    )


async def measured(bench: Bench, product: Product, name: str, before_s: float | None) -> Run:
    """The others' turns; the hog's are published `before_s` before them, after them if negative; None: never."""
    await _run(bench, product, f"w{name}", seconds=2.0)
    if before_s is not None and before_s >= 0:
        await _publish_hog(product)
        await asyncio.sleep(before_s)
    run = asyncio.create_task(_run(bench, product, name, seconds=SECONDS * bench.plan.scale), name="others")
    if before_s is not None and before_s < 0:
        await asyncio.sleep(-before_s)
        await _publish_hog(product)
    return await run


async def _run(bench: Bench, product: Product, name: str, *, seconds: float) -> Run:
    keys = sessions(SESSIONS, kind="rounds", seed=bench.plan.seed)
    workload = Prompt(name, keys, tokens=TOKENS, rate=TOKENS_S, first_ms=FIRST_MS)
    times = arrivals(RATE, kind="poisson", seed=bench.plan.seed)
    return await run_open(product.lane, workload, times, seconds=seconds)


async def _publish_hog(product: Product) -> None:
    """Within half a second or so, in slices: the others' turns are sent by this process too."""
    text = orjson.dumps({"tokens": TOKENS, "rate": TOKENS_S, "first_ms": FIRST_MS}).decode()
    for number in range(HOG_TURNS):
        product.lane.submit(Request("hog", f"hog.{number}", text, "", number, 0.0), "chat")
        if not number % 100:
            await asyncio.sleep(0.002)


def _p99(run: Run) -> float:
    return run.from_intended.p99_ms
