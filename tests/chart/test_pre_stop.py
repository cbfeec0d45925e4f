"""The `preStop` that the chart renders, run as a kubelet runs it, on real workers, Apache Kafka and a real mongod."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import pytest

from tests.chart.conftest import ROOT, Chart
from tests.integration import test_drain_process as stage
from tests.integration.test_drain_process import House, Worker, turns_of

house = stage.house
GRACE_S, SOFT_S = 12, 4
SETTINGS = {"worker_drain_s": str(SOFT_S), "worker_grace_s": str(GRACE_S)}


class Kubelet:
    """Starts pods and ends them: the `preStop` first, then SIGTERM, then nobody is left within the grace period."""

    def __init__(self, chart: Chart, house: House) -> None:
        rendered = chart.render({"settings": {"FLEET_WORKER_GRACE_S": GRACE_S, "FLEET_WORKER_DRAIN_S": SOFT_S}})
        self.command = rendered.container("worker")["lifecycle"]["preStop"]["exec"]["command"]
        self.grace_s: int = rendered.pod("worker")["terminationGracePeriodSeconds"]
        self.took_s: list[float] = []
        self._house = house
        self._names: dict[int, str] = {}

    async def start(self) -> Worker:
        name = self._house.env["FLEET_WORKER_NAME"] = f"pod-{os.getpid()}-{len(self._names)}"
        worker = Worker(self._house)
        self._names[worker.process.pid] = name
        return await worker.ready()

    async def end(self, worker: Worker) -> None:
        began_s = time.monotonic()
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, **self._house.env, "FLEET_WORKER_NAME": self._names[worker.process.pid], "PATH": path}
        hook = await asyncio.create_subprocess_exec(*self.command, env=env, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
        async with asyncio.timeout(self.grace_s):
            said, _ = await hook.communicate()
            worker.signal()  # a second one, if the hook did not wait
            code, _ = await worker.ended(within_s=self.grace_s)
        self.took_s.append(round(time.monotonic() - began_s, 1))
        assert (hook.returncode, code, b"gone" in said) == (0, 0, True), self._house.log.read_text()[-2_000:]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("house", [SETTINGS], indirect=True)
async def test_a_rolling_update_of_the_deployment_fails_no_turn_and_does_no_step_again_by_a_drain(
    house: House, chart: Chart
) -> None:
    kubelet = Kubelet(chart, house)
    old = [await kubelet.start() for _ in range(2)]
    sent, enough = 0, asyncio.Event()

    async def load() -> None:
        nonlocal sent
        while not enough.is_set():
            await house.send(f"s{sent % 40}", f"t{sent}", "10 0.2")
            sent += 1
            await asyncio.sleep(0.05)

    loading = asyncio.create_task(load())
    await house.until_done(100)
    for worker in old:
        await kubelet.start()  # maxSurge 1, maxUnavailable 0
        await kubelet.end(worker)
    enough.set()
    await loading
    found = await house.all_ended(sent)
    assert turns_of(found) == {"completed": sent}
    assert len(house.done()) == 10 * sent
    log = house.log.read_text()
    drains = [json.loads(line) for line in log.splitlines() if '"drained"' in line]
    attempts = [json.loads(next(iter(frames)))["attempt"] for frames in found.values()]
    moved = sum(attempt - 1 for attempt in attempts)
    redone = house.done().total() - 10 * sent
    print(
        f"{sent} turns completed, {moved} moved, {redone} steps done again; pods gone in {kubelet.took_s} s, {drains}"
    )
    assert len(drains) == 2
    assert "in the middle of a step" not in log, "the kubelet's SIGTERM came while it drained"
    assert redone <= moved - sum(drain["handed_over"] for drain in drains), "one a turn that a rebalance took, at most"
    assert sent > 100
