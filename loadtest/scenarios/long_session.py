"""Does turn 500 of a session cost what turn 10 costs: bytes that the database writes, CPU of the worker."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

from pymongo import AsyncMongoClient

from loadtest.bench import Bench, Product
from loadtest.figures import Spread, ratios
from loadtest.generator import Run, run_count
from loadtest.result import Chart, Figure, Outcome
from loadtest.scenarios.parts import faults
from loadtest.schedule import sessions
from loadtest.workload import Echo

SESSIONS = 100
WINDOWS = ((5, 55), (130, 180), (295, 345), (460, 510))
SETTLE_S = 1.5


@dataclass(frozen=True, slots=True)
class Window:
    """What turns `first`..`last` of a session cost each, on average."""

    first: int
    last: int
    cpu_us: float
    log_bytes: float
    run: Run


async def measure(bench: Bench) -> Outcome:
    """Windows of 50 turns at several ages of the same sessions; between them the sessions just grow."""
    rounds: list[list[Window]] = []
    found: list[str] = []
    async with bench.product() as product, bench.mongo() as mongo:
        for repetition in range(bench.plan.repetitions):
            keys = sessions(SESSIONS, kind="rounds", seed=bench.plan.seed)
            workload = Echo(f"l{repetition}", keys, characters=200)
            windows, age = [], 0
            for first, last in WINDOWS:
                found += faults("product", await _grow(product, workload, first - age))
                windows.append(await _window(product, mongo, workload, (first, last)))
                age = last
            rounds.append(windows)
    old, new = [windows[-1] for windows in rounds], [windows[0] for windows in rounds]
    written = ratios([window.log_bytes for window in old], [window.log_bytes for window in new])
    cpu = ratios([window.cpu_us for window in old], [window.cpu_us for window in new])
    labels = [f"{first}–{last}" for first, last in WINDOWS]
    return Outcome(
        "long-session",
        "Turn 500 of a session against turn 10",
        f"{SESSIONS} sessions of 510 echo turns; turns 461–510 against turns 6–55, 200 characters each",
        figures=(
            Figure("bytes written, turn 500 / turn 10", "×", Spread.of(written), "low", target=1.1),
            Figure("worker CPU, turn 500 / turn 10", "×", Spread.of(cpu), "low", target=1.1),
            Figure("bytes written a turn at turn 500", "B", Spread.of([window.log_bytes for window in old]), "low"),
            Figure("worker CPU a turn at turn 500", "µs", Spread.of([window.cpu_us for window in old]), "low"),
        ),
        charts=(
            Chart("Bytes of database log a turn", "B", labels, {"a turn": [w.log_bytes for w in rounds[-1]]}),
            Chart("Worker CPU a turn", "µs", labels, {"a turn": [w.cpu_us for w in rounds[-1]]}),
        ),
        runs=[asdict(window) for windows in rounds for window in windows],
        faults=found + [line for windows in rounds for window in windows for line in faults("product", window.run)],
    )


async def _grow(product: Product, workload: Echo, turns: int) -> Run:
    return await run_count(product.lane, workload, outstanding=SESSIONS, turns=turns * SESSIONS)


async def _window(
    product: Product, mongo: AsyncMongoClient[dict[str, Any]], workload: Echo, turns: tuple[int, int]
) -> Window:
    await asyncio.sleep(SETTLE_S)
    before, cpu_s = await _log_bytes(mongo), product.worker.cost().cpu_s
    run = await _grow(product, workload, turns[1] - turns[0])
    cpu_s = product.worker.cost().cpu_s - cpu_s
    await asyncio.sleep(SETTLE_S)
    written = await _log_bytes(mongo) - before
    count = run.verdict.sent
    return Window(*turns, cpu_us=round(cpu_s / count * 1e6, 1), log_bytes=round(written / count, 1), run=run)


async def _log_bytes(mongo: AsyncMongoClient[dict[str, Any]]) -> float:
    status = await mongo.admin.command("serverStatus")
    return float(status["wiredTiger"]["log"]["log bytes of payload data"])
