"""Latency of one turn at a time: the yardstick over Kafka, the product over Kafka, the product over the WebSocket, in
short rounds, each of the three measured next to the other two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

from loadtest.bench import Bench
from loadtest.figures import Spread, ratios
from loadtest.generator import Lane, Run, run_open
from loadtest.kafka_lane import KafkaLane
from loadtest.result import Chart, Figure, Outcome
from loadtest.scenarios.parts import faults
from loadtest.schedule import arrivals, sessions
from loadtest.workload import Echo

RATE = 20.0
SECONDS = 7.0
SESSIONS = 20
ROUNDS = 3


async def measure(bench: Bench) -> Outcome:
    """20 turns a second, so that none meets another; from the produce call to the terminal frame.

    A repetition is `ROUNDS` rounds, each a share of its seconds and sessions. Who begins a round changes, so that no
    side always meets the same state of the machine.
    """
    runs: dict[str, list[Run]] = {"yardstick": [], "product": [], "websocket": []}
    rounds = bench.plan.repetitions * ROUNDS
    async with (
        bench.yardstick() as (yard, _),
        bench.product(gateway=True) as product,
        bench.sockets(product, 1) as edge,
    ):
        lanes: dict[str, Lane] = {"yardstick": yard, "product": product.lane, "websocket": edge}
        for number in range(-1, rounds):
            for name in _turned(list(lanes), number):
                if name == "websocket":
                    async with _closed(product.lane):
                        run = await _run(bench, edge, f"i{number}-{name}")
                else:
                    run = await _run(bench, lanes[name], f"i{number}-{name}")
                if number >= 0:
                    runs[name].append(run)
    return _outcome(runs)


@asynccontextmanager
async def _closed(lane: KafkaLane) -> AsyncIterator[None]:
    """While turns go over the WebSocket: this lane would read their frames as well, on the loop that reads the
    socket, and neither a browser nor the other two sides have somebody beside them who does."""
    await lane.stop()
    try:
        yield
    finally:
        await lane.start()


async def _run(bench: Bench, lane: Lane, name: str) -> Run:
    seed = bench.plan.seed
    workload = Echo(name, sessions(SESSIONS // ROUNDS, kind="uniform", seed=seed))
    times = arrivals(RATE, kind="constant", seed=seed)
    return await run_open(lane, workload, times, seconds=SECONDS * bench.plan.scale / ROUNDS)


def _turned(names: list[str], number: int) -> list[str]:
    first = number % len(names)
    return names[first:] + names[:first]


def _outcome(runs: dict[str, list[Run]]) -> Outcome:
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
            Chart("p50", "ms", [f"round {number + 1}" for number in range(len(added))], p50),
            Chart("Latency, last round", "ms", ["p50", "p90", "p99"], {n: _marks(r[-1]) for n, r in runs.items()}),
        ),
        runs=[{"side": name, **asdict(run)} for name, found in runs.items() for run in found],
        faults=[line for name, found in runs.items() for run in found for line in faults(name, run)],
    )


def _marks(run: Run) -> list[float]:
    return [run.from_sent.p50_ms, run.from_sent.p90_ms, run.from_sent.p99_ms]
