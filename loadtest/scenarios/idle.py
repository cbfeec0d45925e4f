"""Latency of one turn at a time: the yardstick over Kafka, the product over Kafka, the product over the WebSocket, one
after the other in each repetition."""

from __future__ import annotations

from dataclasses import asdict

from loadtest.bench import Bench
from loadtest.figures import Spread, ratios
from loadtest.generator import Lane, Run, run_open
from loadtest.result import Chart, Figure, Outcome
from loadtest.scenarios.parts import faults
from loadtest.schedule import arrivals, sessions
from loadtest.workload import Echo

RATE = 20.0
SECONDS = 7.0
SESSIONS = 20


async def measure(bench: Bench) -> Outcome:
    """20 turns a second, so that none meets another; from the produce call to the terminal frame."""
    runs: dict[str, list[Run]] = {"yardstick": [], "product": [], "websocket": []}
    async with (
        bench.yardstick() as (yard, _),
        bench.product(gateway=True) as product,
        bench.sockets(product, 1) as edge,
    ):
        lanes: dict[str, Lane] = {"yardstick": yard, "product": product.lane, "websocket": edge}
        for name, lane in lanes.items():
            await _run(bench, lane, f"warm-{name}", seconds=1.0)
        for repetition in range(bench.plan.repetitions):
            for name, lane in lanes.items():
                runs[name].append(await _run(bench, lane, f"i{repetition}-{name}", seconds=SECONDS * bench.plan.scale))
    p50 = {name: [run.from_sent.p50_ms for run in found] for name, found in runs.items()}
    quotient = Spread.of(ratios(p50["product"], p50["yardstick"]))
    added = [edge_ms - direct_ms for edge_ms, direct_ms in zip(p50["websocket"], p50["product"], strict=True)]
    return Outcome(
        "idle",
        "Latency of an idle system",
        f"{RATE:g} turns a second, one at a time: from the produce call (or the socket's send) to the terminal frame",
        figures=(
            Figure("p50 of the product", "ms", Spread.of(p50["product"]), "low"),
            Figure("p50 of the yardstick", "ms", Spread.of(p50["yardstick"]), "low"),
            Figure("product / yardstick", "×", quotient, "low", target=1.5, goal=1.1),
            Figure("p50 over the WebSocket", "ms", Spread.of(p50["websocket"]), "low"),
            Figure("added by gateway and WebSocket", "ms", Spread.of(added), "low", target=3.0, goal=1.5),
        ),
        charts=(
            Chart("p50", "ms", [f"repetition {number + 1}" for number in range(bench.plan.repetitions)], p50),
            Chart("Latency, last repetition", "ms", ["p50", "p90", "p99"], {n: _marks(r[-1]) for n, r in runs.items()}),
        ),
        runs=[{"side": name, **asdict(run)} for name, found in runs.items() for run in found],
        faults=[line for name, found in runs.items() for run in found for line in faults(name, run)],
    )


async def _run(bench: Bench, lane: Lane, name: str, *, seconds: float) -> Run:
    seed = bench.plan.seed
    workload = Echo(name, sessions(SESSIONS, kind="uniform", seed=seed))
    times = arrivals(RATE, kind="constant", seed=seed)
    return await run_open(lane, workload, times, seconds=seconds)


def _marks(run: Run) -> list[float]:
    return [run.from_sent.p50_ms, run.from_sent.p90_ms, run.from_sent.p99_ms]
