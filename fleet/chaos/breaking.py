"""Carries out a plan of faults on a stack, one task a fault. Decides nothing; notes what was done when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

from fleet.chaos.plan import Fault, Planned
from fleet.chaos.process import Process
from fleet.chaos.stack import Stack
from fleet.replica_set import primary, step_down
from loadtest.processes import PartFailed

ROTTEN = {
    "rules": [
        {"every": 3, "answer": {"status": 429, "retry_after_s": 0.5}},
        {"every": 2, "answer": {"cut_after": 2}},
        {"every": 5, "answer": {"status": 503}},
    ]
}


@dataclass(slots=True)
class Done:
    """A fault as it happened, in seconds from the start of the load. `what` says to whom; `skipped`: its target was in
    the hands of another one; `pid`: of the worker that lost its turns. The rest is what was felt of it, see
    `fleet.chaos.aftermath`."""

    fault: str
    what: str
    at_s: float
    until_s: float
    skipped: bool = False
    pid: int | None = None
    alone: bool = True
    recovery_s: float = 0.0
    silence_s: float = 0.0
    takeovers_s: list[float] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Breaking:
    """Runs a plan. `poison` sends a poisonous turn of a session. `done` grows as faults happen; `failed`: what did not
    come back."""

    def __init__(self, stack: Stack, say: Callable[[str], None], poison: Callable[[str], Awaitable[None]]) -> None:
        self.done: list[Done] = []
        self.failed: list[str] = []
        self._stack = stack
        self._say = say
        self._poison = poison
        self._acts: dict[Fault, Callable[[Planned, Done], Awaitable[None]]] = {
            Fault.KILL: self._kill_worker,
            Fault.FREEZE: self._freeze,
            Fault.DRAIN: self._drain_worker,
            Fault.GATEWAY: self._kill_gateway,
            Fault.GATEWAY_DRAIN: self._drain_gateway,
            Fault.BROKER: self._kill_broker,
            Fault.BROKER_FREEZE: self._freeze_broker,
            Fault.STEP_DOWN: self._step_down,
            Fault.PRIMARY: self._kill_primary,
            Fault.MODEL: self._model,
            Fault.POISON: self._poisoned,
            Fault.CUT: self._network,
            Fault.HOLD: self._network,
            Fault.SLOW: self._network,
            Fault.THROTTLE: self._network,
        }

    async def carry_out(self, plan: list[Planned], start_s: float) -> None:
        """All of it, each at its time; returns when the last one is mended. Raises what a fault of ours raised."""
        async with asyncio.TaskGroup() as together:
            for planned in plan:
                together.create_task(self._one(planned, start_s), name=f"fault {planned.fault}")

    async def _one(self, planned: Planned, start_s: float) -> None:
        await asyncio.sleep(max(0.0, start_s + planned.at_s - time.monotonic()))
        now_s = time.monotonic() - start_s
        done = Done(planned.fault.value, "", round(now_s, 2), round(now_s, 2))
        self.done.append(done)
        try:
            await self._acts[planned.fault](planned, done)
        except PartFailed as failed:
            self.failed.append(str(failed))
        done.until_s = round(time.monotonic() - start_s, 2)
        lasted = "skipped" if done.skipped else f"{done.until_s - done.at_s:.1f} s"
        self._say(f"{done.at_s:7.1f} s  {planned.fault.value} {done.what} ({lasted})")

    async def _held(self, process: Process, done: Done, work: Callable[[], Awaitable[None]]) -> None:
        """One fault at a time has hold of a process."""
        done.what = process.name
        if process.busy:
            done.skipped = True
            return
        process.busy = True
        try:
            await work()
        finally:
            process.busy = False

    def _worker(self, planned: Planned) -> Process:
        return self._stack.workers[planned.which % len(self._stack.workers)]

    async def _kill(self, process: Process, planned: Planned, done: Done) -> None:
        async def work() -> None:
            await process.kill()
            await asyncio.sleep(planned.for_s)
            await process.revive()

        await self._held(process, done, work)

    async def _drain(self, process: Process, planned: Planned, done: Done) -> None:
        async def work() -> None:
            code = await process.drain()
            done.what += f", exit code {code}"
            await asyncio.sleep(planned.for_s)
            await process.revive()

        await self._held(process, done, work)

    async def _kill_worker(self, planned: Planned, done: Done) -> None:
        worker = self._worker(planned)
        done.pid = worker.pid
        await self._kill(worker, planned, done)

    async def _drain_worker(self, planned: Planned, done: Done) -> None:
        await self._drain(self._worker(planned), planned, done)

    async def _freeze(self, planned: Planned, done: Done) -> None:
        worker = self._worker(planned)
        done.pid = worker.pid
        await self._stop(worker, planned, done)

    async def _stop(self, process: Process, planned: Planned, done: Done) -> None:
        async def work() -> None:
            process.freeze()
            await asyncio.sleep(planned.for_s)
            process.thaw()

        await self._held(process, done, work)

    async def _kill_gateway(self, planned: Planned, done: Done) -> None:
        assert self._stack.gateway is not None
        await self._kill(self._stack.gateway, planned, done)

    async def _drain_gateway(self, planned: Planned, done: Done) -> None:
        assert self._stack.gateway is not None
        await self._drain(self._stack.gateway, planned, done)

    async def _kill_broker(self, planned: Planned, done: Done) -> None:
        if (broker := self._broker(planned, done)) is not None:
            await self._kill(broker, planned, done)

    async def _freeze_broker(self, planned: Planned, done: Done) -> None:
        if (broker := self._broker(planned, done)) is not None:
            await self._stop(broker, planned, done)

    def _broker(self, planned: Planned, done: Done) -> Process | None:
        """One of them, while no other is broken: a cluster is to survive one loss, not two."""
        brokers = self._stack.brokers
        if broken := next((broker for broker in brokers if broker.busy), None):
            done.what, done.skipped = f"{broken.name} is broken already", True
            return None
        return brokers[planned.which % len(brokers)]

    async def _step_down(self, _: Planned, done: Done) -> None:
        number = await primary(self._stack.addresses)
        if number is None:
            done.skipped, done.what = True, "there is no primary"
            return
        done.what = self._stack.mongods[number].name
        await step_down(self._stack.addresses[number])

    async def _kill_primary(self, planned: Planned, done: Done) -> None:
        number = await primary(self._stack.addresses)
        if number is None:
            done.skipped, done.what = True, "there is no primary"
            return
        await self._kill(self._stack.mongods[number], planned, done)

    async def _network(self, planned: Planned, done: Done) -> None:
        route = self._stack.routes[planned.which % len(self._stack.routes)]
        done.what = route.name
        if route.busy:
            done.skipped = True
            return
        route.busy = True
        acts = {Fault.CUT: route.cut, Fault.HOLD: route.hold, Fault.SLOW: route.slow, Fault.THROTTLE: route.throttle}
        acts[planned.fault]()
        await asyncio.sleep(planned.for_s)
        route.mend()
        route.busy = False

    async def _poisoned(self, planned: Planned, done: Done) -> None:
        done.what = f"a turn of session poison-{planned.which}"
        await self._poison(f"poison-{planned.which}")

    async def _model(self, planned: Planned, done: Done) -> None:
        done.what = "429, 503, cut streams"
        address = self._stack.model_url.removesuffix("/v1") + "/script"
        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as client:
            await client.post(address, json=ROTTEN)
            await asyncio.sleep(planned.for_s)
            await client.post(address, json={"rules": []})
