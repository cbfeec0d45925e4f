"""How long a newcomer waits: from the command `fleet up`, everything installed, to the first answer's first token over
the WebSocket, with the embedded broker, database and model; then from the second start on the same data."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.answers import Request
from loadtest.bench import Bench
from loadtest.figures import Spread
from loadtest.processes import free_port
from loadtest.result import Chart, Figure, Outcome
from loadtest.socket_lane import SocketLane

READY = r"ready: (https?://[^\s/]+)"
LIMIT_S = 90.0
EMBEDDED = ("FLEET_KAFKA_BOOTSTRAP", "FLEET_MONGO_URI", "FLEET_MODEL_URL")


@dataclass(frozen=True, slots=True)
class Start:
    """One start, in seconds from the command."""

    ready_s: float
    first_token_s: float
    stopped_s: float
    ended: str


async def measure(bench: Bench) -> Outcome:
    """A fresh data directory for each repetition, which is then started once more."""
    fresh, again = [], []
    for repetition in range(bench.plan.repetitions):
        data = bench.stack.folder / f"up-{repetition}"
        fresh.append(await _start(bench, data, f"first-{repetition}"))
        again.append(await _start(bench, data, f"again-{repetition}"))
    starts = {"first start": fresh, "second start": again}
    return Outcome(
        "first-token",
        "From `fleet up` to the first token of the first answer",
        "default settings, two workers, embedded broker, mongod and local model, one turn for the agent `chat`",
        figures=(
            Figure("first token, first start", "s", _seconds(fresh), "low", target=15, goal=8),
            Figure("first token, second start", "s", _seconds(again), "low"),
            Figure("ready line, first start", "s", Spread.of([start.ready_s for start in fresh]), "low"),
            Figure("Ctrl-C until everything has ended", "s", Spread.of([start.stopped_s for start in fresh]), "low"),
        ),
        charts=(
            Chart(
                "Seconds until the first token",
                "s",
                [f"repetition {number + 1}" for number in range(bench.plan.repetitions)],
                {name: [start.first_token_s for start in found] for name, found in starts.items()},
            ),
        ),
        runs=[{"start": name, **_as_dict(start)} for name, found in starts.items() for start in found],
        faults=[f"{name}: {s.ended}" for name, found in starts.items() for s in found if s.ended],
    )


async def _start(bench: Bench, data: Path, name: str) -> Start:
    env = dict.fromkeys(EMBEDDED, "") | {"FLEET_GATEWAY_PORT": str(free_port())}
    begun_s = time.monotonic()
    child = bench.stack.start("fleet-up", "fleet", "up", "--data", str(data), **env)
    ended = ""
    try:
        address = await child.ready_line(READY, timeout_s=LIMIT_S)
        ready_s = time.monotonic() - begun_s
        first_s = await _first_token(address, name)
    finally:
        stop_s = time.monotonic()
        code = await bench.stack.end(child, timeout_s=45.0)
        if code not in (0, 130):
            ended = f"ended with exit code {code} on SIGTERM"
    return Start(round(ready_s, 2), round(first_s - begun_s, 2), round(time.monotonic() - stop_s, 2), ended)


async def _first_token(address: str, name: str) -> float:
    """The moment of the first token on `time.monotonic`."""
    lane = SocketLane(address)
    told: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def heard(frame: Mapping[str, Any], at_s: float) -> None:
        if frame.get("type") in ("delta", "completed") and not told.done():
            told.set_result(at_s)
        elif frame.get("type") in ("failed", "error", "refused") and not told.done():
            told.set_exception(RuntimeError(f"the first turn was not answered: {dict(frame)}"))

    lane.listen(heard)
    await lane.start()
    try:
        lane.submit(Request(f"load-{name}", f"load-{name}.1", "Say hello.", "", 1, time.monotonic()), "chat")
        return await asyncio.wait_for(told, LIMIT_S)
    finally:
        await lane.stop()


def _seconds(starts: list[Start]) -> Spread:
    return Spread.of([start.first_token_s for start in starts])


def _as_dict(start: Start) -> dict[str, object]:
    return {"ready_s": start.ready_s, "first_token_s": start.first_token_s, "stopped_s": start.stopped_s}
