"""200 sessions of 20 turns through two workers while a third joins and one is killed with -9: nothing lost, doubled,
reordered or overlapped; what is stored is what was answered; sending everything again changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import pytest

from tests.e2e import clients
from tests.e2e.fleet_process import FleetUp
from tests.support.kafka_jvm import KafkaAddress, apache_kafka

__all__ = ["apache_kafka"]

SESSIONS, TURNS, TOKENS = 200, 20, 3
AT_ONCE = 40
Make = Callable[..., FleetUp]


@dataclass(frozen=True)
class Said:
    """One turn of the storm: its text is a hint to the scripted model, which makes its answer unmistakable."""

    session: str
    number: int

    @property
    def turn(self) -> str:
        return f"t{self.number}"

    @property
    def start(self) -> int:
        return (int(self.session.rpartition("-")[2]) * TURNS + self.number) * TOKENS

    @property
    def text(self) -> str:
        return json.dumps({"tokens": TOKENS, "rate": 200, "first_ms": 10, "start": self.start})

    @property
    def answer(self) -> str:
        return "".join(f"t{self.start + token} " for token in range(TOKENS))

    @property
    def record(self) -> dict[str, str]:
        return {"text": self.text, "turn": self.turn, "agent": "chat"}


def all_turns() -> list[Said]:
    """Round robin over the sessions."""
    run = uuid.uuid4().hex[:6]
    return [Said(f"storm-{run}-{session}", number) for number in range(TURNS) for session in range(SESSIONS)]


async def publish(kafka: clients.Kafka, turns: list[Said], *, per_s: float) -> None:
    """At a steady rate; each session's turns in order."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for first in range(0, len(turns), AT_ONCE):
        batch = turns[first : first + AT_ONCE]
        await asyncio.gather(*(kafka.publish(one.session, one.record) for one in batch))
        await asyncio.sleep(max(0.0, began_s + first / per_s - loop.time()))


async def faults(up: FleetUp, processes: list[subprocess.Popen[bytes]]) -> None:
    """A third worker joins; then one of the first two is killed."""
    await asyncio.sleep(3)
    processes.append(up.extra_worker(up.data.with_name("third.log")))
    await asyncio.sleep(4)
    os.kill(up.pid("worker 1"), signal.SIGKILL)


async def histories(address: str, sessions: set[str]) -> dict[str, list[tuple[str, str]]]:
    """What is stored of every session."""
    gate = asyncio.Semaphore(16)
    async with clients.http(address) as client:

        async def one(session: str) -> tuple[str, list[tuple[str, str]]]:
            async with gate:
                return session, await clients.history(client, session)

        return dict(await asyncio.gather(*map(one, sessions)))


async def model_stats(address: str) -> dict[str, object]:
    async with httpx.AsyncClient(trust_env=False) as client:
        found: dict[str, object] = (await client.get(address.replace("/v1", "/stats"))).json()
        return found


async def storm(up: FleetUp, model: str, prefix: str) -> None:
    """The whole of it on a stack that runs."""
    turns = all_turns()
    sessions = {one.session for one in turns}
    extra: list[subprocess.Popen[bytes]] = []
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.post(model.replace("/v1", "/reset"))
    try:
        async with clients.Kafka(up.running["kafka_bootstrap"], prefix) as kafka:
            async with asyncio.TaskGroup() as together:  # what fails ends the other: no worker is started after that
                together.create_task(faults(up, extra))
                await publish(kafka, turns, per_s=300)
            await kafka.until(len(turns), timeout_s=150)
            await asyncio.sleep(1)
            check_frames(kafka, turns)
            stats = await model_stats(model)
            assert stats["overlaps"] == [], "two turns of one session were at the model at the same time"
            stored = await histories(up.address, sessions)
            expected = {session: expected_history(turns, session) for session in sessions}
            assert stored == expected
            await publish(kafka, turns[:: SESSIONS // 10], per_s=300)
            await asyncio.sleep(3)
            check_frames(kafka, turns)
            assert await histories(up.address, sessions) == expected
            assert (await model_stats(model))["completed"] == stats["completed"], "a known turn never runs again"
    finally:
        for process in extra:
            process.kill()
            process.wait()


def check_frames(kafka: clients.Kafka, turns: list[Said]) -> None:
    """Exactly one end for each turn, the right one; the ends of a session come in the order of publishing."""
    ended = {session: [frame["turn"] for frame in frames] for session, frames in kafka.ends.items()}
    wanted = [f"t{number}" for number in range(TURNS)]
    for session, order in ended.items():
        assert order == wanted, f"{session}: {order}"
    assert sum(map(len, ended.values())) == len(turns) == SESSIONS * TURNS
    for one in turns:
        frames = kafka.frames[one.session, one.turn]
        end = frames[-1]
        assert (end["type"], end["text"]) == ("completed", one.answer), (one, end)
        attempts = [frame["attempt"] for frame in frames]
        assert attempts == sorted(attempts), (one, attempts)


def expected_history(turns: list[Said], session: str) -> list[tuple[str, str]]:
    """What the session must hold: input and answer of each turn."""
    own = [one for one in turns if one.session == session]
    return [pair for one in own for pair in (("user", one.text), ("assistant", one.answer))]


@pytest.mark.timeout(400)
async def test_the_storm_on_the_embedded_broker_with_the_restart_that_fleet_up_does(
    fresh: Make, scripted_model: str
) -> None:
    up = await asyncio.to_thread(fresh().start)
    await storm(up, scripted_model, "")
    assert "worker 1 ended by SIGKILL; starting it again" in up.said()


@pytest.mark.kafka_jvm
@pytest.mark.timeout(600)
async def test_the_storm_on_apache_kafka(fresh: Make, scripted_model: str, apache_kafka: KafkaAddress) -> None:
    prefix = f"storm-{uuid.uuid4().hex[:8]}."
    up = fresh(kafka_bootstrap=apache_kafka.address, topic_prefix=prefix)
    await asyncio.to_thread(up.start)
    await storm(up, scripted_model, prefix)
