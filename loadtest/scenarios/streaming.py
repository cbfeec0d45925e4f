"""Streamed tokens through one worker, each stream at 200 tokens/s: how many a core of the worker carries, with every
answer whole."""

from __future__ import annotations

from collections.abc import Callable

from loadtest.bench import Bench, Product
from loadtest.figures import Spread
from loadtest.generator import run_closed
from loadtest.processes import Child
from loadtest.result import Chart, Figure, Outcome
from loadtest.scenarios.parts import Costed, costed, faults, others
from loadtest.schedule import sessions
from loadtest.workload import Prompt

STREAMS = (25, 50, 100, 150)
TOKENS = 400
RATE = 200.0
SECONDS = 8.0
RAMP_S = 2.0


async def measure(bench: Bench) -> Outcome:
    """Steps of more streams; the figure is that of the step that streamed most, repeated."""
    async with bench.model() as (model_url, model):
        settings = {"model_url": model_url, "model": "scripted", "model_key": "none", "agent": "chat"}
        async with bench.product(settings | {"worker_slots": "1000"}) as product:
            product.lane.pause_s = 0.02
            steps = {count: await _run(bench, (product, model), count, name=f"d{count}") for count in STREAMS}
            best = max(steps, key=lambda count: _tokens_s(steps[count]))
            names = [f"r{number}" for number in range(1, bench.plan.repetitions)]
            repeated = [steps[best], *[await _run(bench, (product, model), best, name=name) for name in names]]
    return Outcome(
        "streaming",
        "Streamed deltas through one worker",
        f"{best} streams of {TOKENS} tokens at {RATE:g} tokens/s each, deltas as the model sends",
        figures=(
            Figure("deltas a second and core", "1/s", _spread(_per_core, repeated), target=25_000, goal=50_000),
            Figure("deltas a second, all streams", "1/s", _spread(_tokens_s, repeated)),
            Figure("frames published a delta", "", _spread(_frames, repeated), "low"),
            others(repeated),
            Figure("p50 of a turn", "ms", Spread.of([done.run.from_sent.p50_ms for done in repeated]), "low"),
        ),
        charts=(
            Chart(
                "Deltas a second by number of streams",
                "1/s",
                [str(count) for count in steps],
                {
                    "all streams": [_tokens_s(done) for done in steps.values()],
                    "asked for": [count * TOKENS / (TOKENS / RATE + 0.05) for count in steps],
                    "a core of the worker": [_per_core(done) for done in steps.values()],
                },
                "lines",
            ),
        ),
        runs=[done.as_dict(step="ladder") for done in steps.values()] + [d.as_dict(step="best") for d in repeated[1:]],
        faults=[line for done in [*steps.values(), *repeated[1:]] for line in faults("product", done.run)],
    )


async def _run(bench: Bench, parts: tuple[Product, Child], streams: int, *, name: str) -> Costed:
    product, model = parts
    keys = sessions(streams * 2, kind="rounds", seed=bench.plan.seed)
    workload = Prompt(name, keys, tokens=TOKENS, rate=RATE, first_ms=50.0)
    run = run_closed(
        product.lane, workload, outstanding=streams, seconds=RAMP_S + SECONDS * bench.plan.scale, ramp_s=RAMP_S
    )
    return await costed(run, worker=product.worker, mongod=bench.stack.mongod, broker=bench.stack.broker, model=model)


def _spread(figure: Callable[[Costed], float], done: list[Costed]) -> Spread:
    return Spread.of([figure(each) for each in done])


def _tokens_s(done: Costed) -> float:
    return done.run.achieved_rate * TOKENS


def _per_core(done: Costed) -> float:
    return TOKENS / (done.cpu_us["worker"] / 1e6)


def _frames(done: Costed) -> float:
    return done.run.verdict.deltas / max(done.run.verdict.completed * TOKENS, 1)
