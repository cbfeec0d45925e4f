"""How fast `fleet chaos check` reads and judges a long history, and what memory it takes."""

from __future__ import annotations

import asyncio
import resource
import time

import psutil

from loadtest.bench import Bench, new_prefix
from loadtest.figures import Spread
from loadtest.past import fill
from loadtest.processes import Child, PartFailed
from loadtest.result import Figure, Outcome

TURNS = 200_000
CHECK_S = 600.0


async def measure(bench: Bench) -> Outcome:
    """One history, checked as often as there are repetitions; the clock runs from the command to its exit."""
    prefix, turns = new_prefix(), int(TURNS * bench.plan.scale)
    env = bench.env(prefix, prefix.strip("-").replace("-", "_"))
    await bench.apply_topics(env)
    stack, database = bench.stack, env["FLEET_MONGO_DATABASE"]
    await fill(stack.bootstrap, stack.mongo_uri, prefix=prefix, database=database, turns=turns)
    rates, memory, cpu, faults = [], [], [], []
    for _ in range(bench.plan.repetitions):
        begun_s, before_s = time.monotonic(), _children_s()
        child = stack.start("check", "fleet", "chaos", "check", "--settled", "--json", "--least", str(turns), **env)
        memory.append(await _peak_mib(child))
        rates.append(turns / (time.monotonic() - begun_s))
        code = await child.wait(1.0)
        cpu.append((_children_s() - before_s) / turns * 1e6)
        if code:
            said = child.log.read_text("utf-8", "replace").splitlines()
            faults.append(f"the check ended with {code}: {said[-1][:300] if said else ''}")
        await stack.end(child)
    return Outcome(
        "history",
        "A long history, checked",
        f"{turns:,} turns, {turns // 20:,} sessions: read from Kafka and MongoDB and judged by `fleet chaos check`",
        figures=(
            Figure("turns/s checked", "1/s", Spread.of(rates), target=20_000),
            Figure("CPU a turn, all its processes", "µs", Spread.of(cpu), "low"),
            Figure("peak memory of all its processes", "MiB", Spread.of(memory), "low"),
        ),
        runs=[{"turns_a_second": rate, "peak_mib": mib} for rate, mib in zip(rates, memory, strict=True)],
        faults=faults,
    )


def _children_s() -> float:
    """CPU of the processes that we started and that have ended, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def _peak_mib(child: Child) -> float:
    """The most that the process and those that it started held together, looked at ten times a second, until its end.
    Raises PartFailed after ten minutes."""
    process, peak, end_s = psutil.Process(child.pid), 0, time.monotonic() + CHECK_S
    while not child.ended:
        if time.monotonic() > end_s:
            raise PartFailed(f"the check was not done within {CHECK_S:g} s")
        peak = max(peak, _held(process))
        await asyncio.sleep(0.1)
    return round(peak / 2**20, 1)


def _held(process: psutil.Process) -> int:
    held = 0
    try:
        for one in (process, *process.children(recursive=True)):
            held += one.memory_info().rss
    except psutil.Error:
        return held
    return held
