"""`fleet drain` on the running stack: one worker after the other, while turns go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from tests.e2e import clients
from tests.e2e.fleet_process import FleetUp
from tests.e2e.test_life_of_the_stack import SESSIONS, ask

Make = Callable[..., FleetUp]


async def test_a_rolling_restart_by_command_loses_no_turn(fresh: Make) -> None:
    up = await asyncio.to_thread(fresh().start)
    before = [up.pid(name) for name in ("worker 1", "worker 2")]
    done = asyncio.Event()

    async def talk(session: str) -> int:
        turns = 0
        while not done.is_set():
            assert await ask(client, session, str(turns)) == str(turns)
            turns += 1
        return turns

    async with clients.http(up.address) as client, asyncio.timeout(100):
        talks = [asyncio.create_task(talk(session)) for session in SESSIONS]
        for name in ("worker-1", "2"):
            drained = await asyncio.to_thread(up.command, "drain", name, "--wait", "--json")
            assert drained.returncode == 0, drained.stderr
            assert json.loads(drained.stdout)["state"] == "back"
        done.set()
        turns = await asyncio.gather(*talks)
        for session, count in zip(SESSIONS, turns, strict=True):
            assert len(await clients.history(client, session)) == 2 * count
    after = [up.pid(name) for name in ("worker 1", "worker 2")]
    assert not set(before) & set(after)
    assert "worker 1 ended with exit code 0; starting it again" in up.said()
    assert min(turns) > 5
    missing = await asyncio.to_thread(up.command, "drain", "worker-9")
    assert (missing.returncode, "there is no 'worker-9' here: worker 1, worker 2" in missing.stderr) == (1, True)
