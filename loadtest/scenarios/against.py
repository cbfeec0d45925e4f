"""Durable echo turns a second of this tree against those of a commit, one worker each on the same broker and mongod,
interleaved: what was built since then must not cost more than a tenth."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from loadtest.bench import Bench, Product
from loadtest.figures import Spread, ratios
from loadtest.generator import run_closed, run_count
from loadtest.processes import PartFailed
from loadtest.result import Figure, Outcome
from loadtest.scenarios.parts import Costed, costed, faults, low, others
from loadtest.schedule import sessions
from loadtest.workload import Echo

SESSIONS, OUTSTANDING = 1_000, 4_000
SECONDS, RAMP_S = 6.0, 2.0


async def measure(bench: Bench) -> Outcome:
    """Both workers stand during the whole scenario; each repetition begins with another side."""
    commit = bench.plan.against
    if not commit:
        raise PartFailed("say which commit: --against COMMIT")
    tree = bench.stack.folder / "against"
    await asyncio.to_thread(_take, commit, tree)
    runs: dict[str, list[Costed]] = {"now": [], "then": []}
    async with bench.product() as now, bench.product(tree=tree) as then:
        sides = {"now": now, "then": then}
        for product in sides.values():
            await run_count(product.lane, _workload("warm", bench), outstanding=200, turns=2 * SESSIONS)
        for repetition in range(bench.plan.repetitions):
            names = list(sides) if repetition % 2 else list(reversed(sides))
            for name in names:
                runs[name].append(await _run(bench, sides[name], repetition))
    rates = {name: [done.run.achieved_rate for done in found] for name, found in runs.items()}
    cpu = {name: [done.cpu_us["worker"] for done in found] for name, found in runs.items()}
    return Outcome(
        "against",
        f"Durable echo turns, now against {commit}",
        f"{SESSIONS:,} sessions, {OUTSTANDING:,} turns outstanding, one worker each, interleaved",
        figures=[
            Figure("turns/s, now / then", "×", Spread.of(ratios(rates["now"], rates["then"])), target=0.9),
            Figure("turns/s, now", "1/s", Spread.of(rates["now"])),
            Figure("turns/s, then", "1/s", Spread.of(rates["then"])),
            low("worker CPU a turn, now / then", "×", ratios(cpu["now"], cpu["then"])),
            low("worker CPU a turn, now", "µs", cpu["now"]),
            low("worker CPU a turn, then", "µs", cpu["then"]),
            others(done for found in runs.values() for done in found),
        ],
        runs=[done.as_dict(side=name) for name, found in runs.items() for done in found],
        faults=[line for name, found in runs.items() for done in found for line in faults(name, done.run)],
    )


def _take(commit: str, tree: Path) -> None:
    """The files of a commit of the repository that this runs in. Raises PartFailed."""
    try:
        tree.mkdir()
        packed = subprocess.run(["git", "archive", commit], check=True, capture_output=True, timeout=60).stdout
        subprocess.run(["tar", "-x", "-C", str(tree)], check=True, capture_output=True, timeout=60, input=packed)
    except (OSError, subprocess.SubprocessError) as failed:
        told = (getattr(failed, "stderr", None) or b"").decode("utf-8", "replace").strip()
        raise PartFailed(f"git has no {commit} here: {told or failed}") from failed


async def _run(bench: Bench, product: Product, repetition: int) -> Costed:
    seconds = RAMP_S + SECONDS * bench.plan.scale
    workload = _workload(f"t{repetition}", bench)
    run = run_closed(product.lane, workload, outstanding=OUTSTANDING, seconds=seconds, ramp_s=RAMP_S)
    return await costed(run, worker=product.worker, mongod=bench.stack.mongod, broker=bench.stack.broker)


def _workload(run: str, bench: Bench) -> Echo:
    return Echo(run, sessions(SESSIONS, kind="rounds", seed=bench.plan.seed), owner="load")
