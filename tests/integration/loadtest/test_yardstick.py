"""The yardstick and the generator on a real broker and a real mongod, and what a run leaves behind."""

from __future__ import annotations

import psutil

from loadtest.bench import Bench, Plan
from loadtest.generator import run_closed, run_open
from loadtest.scenarios.parts import costed, faults
from loadtest.schedule import arrivals, sessions
from loadtest.stack import Stack
from loadtest.workload import Echo


async def test_every_turn_is_answered_once_and_stored_once_and_nothing_is_left_behind() -> None:
    ours_before = psutil.Process().children(recursive=True)
    async with Stack() as stack:
        folder = stack.folder
        bench = Bench(stack, Plan())
        async with bench.yardstick() as (lane, child), bench.mongo() as mongo:
            workload = Echo("c", sessions(50, kind="rounds", seed=1))
            done = await costed(run_closed(lane, workload, outstanding=200, seconds=1.5, ramp_s=0.5), worker=child)
            opened = await run_open(
                lane, Echo("o", sessions(50, kind="zipf", seed=1)), arrivals(100, kind="poisson", seed=1), seconds=1.0
            )
            (database,) = [name for name in await mongo.list_database_names() if name.startswith("load_")]
            stored = await mongo[database]["yard"].count_documents({})
    assert faults("closed", done.run) + faults("open", opened) == []
    assert done.run.turns > 100
    assert stored == done.run.verdict.sent + opened.verdict.sent
    assert 0 < done.cpu_us["worker"] < 10_000
    assert not folder.exists()
    assert psutil.Process().children(recursive=True) == ours_before
