"""Workers that are killed with -9 under load, one after the other; then one that is stopped beyond its session timeout
and wakes. Asked is when the turns that they ran go on elsewhere, and from which step."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from loadtest.bench import Bench, Product
from loadtest.figures import Latency, Spread
from loadtest.generator import Run, run_open
from loadtest.moves import Moves
from loadtest.processes import Child
from loadtest.result import Figure, Outcome
from loadtest.scenarios.parts import Beside, faults, ladder, low
from loadtest.schedule import arrivals, sessions
from loadtest.waiting import until
from loadtest.workload import Steps

WORKERS, KILLS = 3, 5
RATE, SESSIONS, STEPS = 20.0, 400, 20
STEADY_S, WARM_S, PATIENCE_S = 3.0, 6.0, 20.0
TIMEOUT_S = int(os.environ.get("FLEET_KAFKA_SESSION_TIMEOUT_MS", "10000")) / 1000
NOTICED_MS = 1_000.0


@dataclass(frozen=True, slots=True)
class Killed:
    """Seconds from a kill until the first frame of the next attempt, and until the first new step in it, of each turn
    that the worker ran."""

    moved_s: tuple[float, ...]
    step_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Woken:
    """Seconds from SIGCONT until the last frame of an attempt that had been replaced, and until a turn began."""

    stale_s: float
    served_s: float


@dataclass(frozen=True, slots=True)
class Repetition:
    load: Run
    kills: tuple[Killed, ...]
    woken: Woken
    again: tuple[str, ...]

    def moved(self) -> Latency:
        return Latency.of([seconds for kill in self.kills for seconds in kill.moved_s])

    def stepped(self) -> Latency:
        return Latency.of([seconds for kill in self.kills for seconds in kill.step_s])

    def last_ms(self) -> list[float]:
        """The last turn's take-over, kill by kill."""
        return [max(kill.moved_s, default=0.0) * 1000 for kill in self.kills]


async def measure(bench: Bench) -> Outcome:
    """All repetitions on the same group of workers; each kill's place is taken by a new one afterwards."""
    async with bench.model() as (model_url, _):
        settings = {"model_url": model_url, "model": "scripted", "model_key": "none"}
        settings["agents"] = "fleet.chaos.agents:agents"
        async with bench.product(settings) as product:
            workers = [product.worker] + [await bench.another(product) for _ in range(WORKERS - 1)]
            runs = [await _repetition(bench, product, workers, n) for n in range(bench.plan.repetitions)]
            for worker in workers:
                await bench.stack.end(worker)
    last_ms = [ms for run in runs for ms in run.last_ms()]
    return Outcome(
        "take-over",
        f"{len(last_ms)} workers killed with -9 under load",
        f"{WORKERS} workers, {RATE:g} turns/s of {STEPS} steps of 0.15 s, session timeout {TIMEOUT_S:g} s",
        figures=[
            Figure("kill until its last turn goes on, by kill", "ms", Spread.of(last_ms), "low"),
            low("the same, p99 of all kills", "ms", [Latency.of([ms / 1000 for ms in last_ms]).p99_ms], _timeout(1)),
            *ladder("kill until a turn goes on", [run.moved() for run in runs], _timeout(1)),
            *ladder("kill until a turn's next new step", [run.stepped() for run in runs], _timeout(5)),
            low("turns that were taken over", "", [run.moved().count for run in runs]),
            low("steps that were told twice", "", [len(run.again) for run in runs], 0),
            low("SIGCONT until its last void frame", "ms", [run.woken.stale_s * 1000 for run in runs], NOTICED_MS),
            low("SIGCONT until it runs turns again", "ms", [run.woken.served_s * 1000 for run in runs]),
            low("longest turn", "ms", [run.load.from_intended.max_ms for run in runs]),
        ],
        runs=[asdict(run) for run in runs],
        faults=[line for run in runs for line in _faults(run)],
    )


async def _repetition(bench: Bench, product: Product, workers: list[Child], number: int) -> Repetition:
    rng, seed, moves = random.Random(f"{bench.plan.seed}-{number}"), bench.plan.seed + number, Moves()
    keys = sessions(SESSIONS, kind="uniform", seed=seed)
    stop = asyncio.Event()
    load = run_open(
        Beside(product.lane, moves.heard),
        Steps(f"r{number}", keys, steps=STEPS),
        itertools.takewhile(lambda _: not stop.is_set(), arrivals(RATE, kind="poisson", seed=seed)),
        seconds=3_600.0,
    )
    loading = asyncio.create_task(load, name="load")
    try:
        await asyncio.sleep(WARM_S)
        kills = []
        for _ in range(max(1, int(KILLS * bench.plan.scale))):
            await asyncio.sleep(rng.uniform(0.0, 1.0))
            place = rng.randrange(len(workers))
            kills.append(await _kill(workers[place], moves))
            await bench.stack.end(workers[place])
            workers[place] = await bench.another(product)
            await asyncio.sleep(STEADY_S)
        woken = await _freeze(workers[rng.randrange(len(workers))], moves)
    finally:
        stop.set()
    return Repetition(await loading, tuple(kills), woken, tuple(moves.again))


async def _kill(worker: Child, moves: Moves) -> Killed:
    worker.signal(signal.SIGKILL)
    killed_s, mine = time.monotonic(), moves.running(_name(worker))
    before = {turn: moves.turns[turn].attempt for turn in mine}
    await _settled(moves, mine, before)
    moved = [moves.turns[turn] for turn in mine if moves.turns[turn].attempt > before[turn]]
    return Killed(
        tuple(turn.moved_s - killed_s for turn in moved),
        tuple(turn.step_s - killed_s for turn in moved if turn.step_s),
    )


async def _settled(moves: Moves, mine: Sequence[str], before: dict[str, int]) -> None:
    """Until each of these turns is over, or has made a step in another attempt."""

    def settled() -> bool:
        turns = [(moves.turns[name], before[name]) for name in mine]
        return all(turn.over or (turn.attempt > attempt and turn.step_s) for turn, attempt in turns)

    await until(settled, timeout_s=TIMEOUT_S + PATIENCE_S)


async def _freeze(worker: Child, moves: Moves) -> Woken:
    """Stopped until its turns are elsewhere and two seconds more."""
    mine = moves.running(_name(worker))
    before = {turn: moves.turns[turn].attempt for turn in mine}
    worker.signal(signal.SIGSTOP)
    try:
        await _settled(moves, mine, before)
        await asyncio.sleep(2.0)
    finally:
        worker.signal(signal.SIGCONT)
    woken_s = time.monotonic()

    def served_s() -> float:
        return next((at_s for at_s, name in moves.started if at_s > woken_s and _name(worker) in name), 0.0)

    await until(lambda: served_s() > 0, timeout_s=PATIENCE_S)
    await asyncio.sleep(STEADY_S)
    stale = [at_s - woken_s for at_s in moves.stale_s if at_s > woken_s]
    return Woken(max(stale, default=0.0), served_s() - woken_s)


def _name(worker: Child) -> str:
    """What a worker's name holds of its process."""
    return f"-{worker.pid}-"


def _timeout(more_s: float) -> float:
    return (TIMEOUT_S + more_s) * 1000


def _faults(run: Repetition) -> list[str]:
    found = faults("load", run.load) + [f"told again: {step}" for step in run.again[:5]]
    if not all(kill.moved_s for kill in run.kills):
        found.append("a worker that was killed ran no turn, or none went on")
    return found + (["the woken worker runs no turns"] if run.woken.served_s < 0 else [])
