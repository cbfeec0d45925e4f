"""Durable echo turns a second through one worker process, next to the yardstick: closed loop, 1,000 sessions, 4,000
turns outstanding, straight to Kafka; sides alternate."""

from __future__ import annotations

from loadtest.bench import Bench
from loadtest.figures import Spread, ratios
from loadtest.generator import run_closed, run_count
from loadtest.kafka_lane import KafkaLane
from loadtest.processes import Child
from loadtest.result import Chart, Figure, Outcome
from loadtest.scenarios.parts import Costed, costed, faults, others
from loadtest.schedule import sessions
from loadtest.workload import Echo

SESSIONS = 1_000
OUTSTANDING = 4_000
SECONDS = 8.0
RAMP_S = 2.0


async def measure(bench: Bench) -> Outcome:
    """Both sides stand during the whole scenario and have met their sessions before the first repetition; each
    repetition measures one after the other."""
    runs: dict[str, list[Costed]] = {"product": [], "yardstick": []}
    async with bench.yardstick() as (yard, child), bench.product() as product:
        sides = {"product": (product.lane, product.worker), "yardstick": (yard, child)}
        for lane, _ in sides.values():
            await run_count(lane, _workload("warm", seed=bench.plan.seed), outstanding=200, turns=2 * SESSIONS)
        for repetition in range(bench.plan.repetitions):
            for name, (lane, worker) in sides.items():
                runs[name].append(await _run(bench, lane, worker, repetition=repetition))
    rates = {name: [done.run.achieved_rate for done in found] for name, found in runs.items()}
    cpu = {name: [done.cpu_us["worker"] for done in found] for name, found in runs.items()}
    return Outcome(
        "throughput",
        "Durable echo turns through one worker process",
        f"{SESSIONS:,} sessions, {OUTSTANDING:,} turns outstanding, produced straight to Kafka",
        figures=(
            Figure("turns/s of the product", "1/s", Spread.of(rates["product"])),
            Figure("turns/s of the yardstick", "1/s", Spread.of(rates["yardstick"])),
            Figure("product / yardstick", "×", Spread.of(ratios(*rates.values())), target=0.5, goal=0.8),
            Figure("worker CPU a turn", "µs", Spread.of(cpu["product"]), "low", target=60, goal=40),
            Figure("yardstick CPU a turn", "µs", Spread.of(cpu["yardstick"]), "low"),
            *_servers(runs),
            others(done for found in runs.values() for done in found),
        ),
        charts=(
            Chart("Turns a second", "1/s", _labels(bench), rates),
            Chart("CPU of the worker process a turn", "µs", _labels(bench), cpu),
        ),
        runs=[done.as_dict(side=name) for name, found in runs.items() for done in found],
        faults=[line for name, found in runs.items() for done in found for line in faults(name, done.run)],
    )


async def _run(bench: Bench, lane: KafkaLane, worker: Child, *, repetition: int) -> Costed:
    workload = _workload(f"t{repetition}", seed=bench.plan.seed)
    seconds = RAMP_S + SECONDS * bench.plan.scale
    run = run_closed(lane, workload, outstanding=OUTSTANDING, seconds=seconds, ramp_s=RAMP_S)
    return await costed(run, worker=worker, mongod=bench.stack.mongod, broker=bench.stack.broker)


def _workload(run: str, *, seed: int) -> Echo:
    return Echo(run, sessions(SESSIONS, kind="rounds", seed=seed), owner="load")


def _servers(runs: dict[str, list[Costed]]) -> list[Figure]:
    return [
        Figure(f"{part} CPU a turn, {name}", "µs", Spread.of([done.cpu_us[part] for done in found]), "low")
        for name, found in runs.items()
        for part in ("mongod", "broker", "load")
        if part in found[0].cpu_us
    ]


def _labels(bench: Bench) -> list[str]:
    return [f"repetition {number + 1}" for number in range(bench.plan.repetitions)]
