"""Worker processes that are stopped, on Apache Kafka and a real mongod: what ends, what moves, what is done twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.kafka_admin import KafkaAdmin
from broker.kafka_publisher import KafkaPublisher
from broker.kafka_scan import KafkaScan
from broker.port import Outgoing
from broker.topics import apply
from journal.mongo import MongoStore
from journal.turns import turn_view
from schemas.settings import KafkaSettings, MongoSettings
from schemas.topics import load_topics
from tests.support.kafka_jvm import KafkaAddress
from tests.support.mongod import Mongo
from tests.support.ports import free_port
from tests.support.steps_agent import LOG

ROOT = Path(__file__).parents[2]
TERMINAL = {"completed", "failed", "cancelled"}


class Worker:
    """`python -m workers` as a supervisor starts it."""

    def __init__(self, house: House) -> None:
        port = free_port()
        self.ready_url = ("127.0.0.1", port)
        with house.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers"],
                env={**os.environ, **house.env, "FLEET_WORKER_PORT": str(port)},
                stdout=out,
                stderr=out,
                cwd=ROOT,
            )
        house.workers.append(self)

    async def readyz(self) -> tuple[int, str]:
        from fleet.probe import get

        try:
            return await get(*self.ready_url, "/readyz")
        except (OSError, TimeoutError, ValueError):
            return 0, ""

    async def ready(self) -> Worker:
        async with asyncio.timeout(30):
            while (await self.readyz())[0] != 200:
                assert self.process.poll() is None
                await asyncio.sleep(0.05)
        return self

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    async def ended(self, within_s: float) -> tuple[int, float]:
        """Exit code, and how long it took."""
        began_s = time.monotonic()
        return await asyncio.to_thread(self.process.wait, within_s), time.monotonic() - began_s


class House:
    """Broker, store and workers of one test, under a prefix of its own."""

    def __init__(self, kafka: str, mongo: str, folder: Path, **settings: str) -> None:
        self.log, self.steps_log = folder / "workers.log", folder / "steps.log"
        self.steps_log.touch()
        self.env = {
            "FLEET_KAFKA_BOOTSTRAP": kafka,
            "FLEET_TOPIC_PREFIX": f"t{uuid.uuid4().hex[:10]}.",
            "FLEET_MONGO_URI": mongo,
            "FLEET_MONGO_DATABASE": f"t{uuid.uuid4().hex[:12]}",
            "FLEET_AGENTS": "tests.support.steps_agent:registry",
            "FLEET_AGENT": "steps",
            LOG: str(self.steps_log),
            **{f"FLEET_{name.upper()}": value for name, value in settings.items()},
        }
        self.workers: list[Worker] = []
        self.kafka = KafkaSettings(kafka_bootstrap=kafka, topic_prefix=self.env["FLEET_TOPIC_PREFIX"])
        self.mongo = MongoSettings(mongo_uri=mongo, mongo_database=self.env["FLEET_MONGO_DATABASE"])
        self.publisher = KafkaPublisher(self.kafka, ("agent.turns",))

    async def send(self, session: str, turn: str, text: str, agent: str = "steps") -> None:
        body = {"turn": turn, "text": text, "agent": agent}
        await self.publisher.send(Outgoing("agent.turns", session.encode(), json.dumps(body).encode()))

    async def terminals(self) -> dict[str, set[bytes]]:
        """Different terminal frames by turn."""
        found: dict[str, set[bytes]] = {}
        async for records in KafkaScan(self.kafka).read("agent.replies"):
            for record in records:
                frame = json.loads(record.value or b"{}")
                if frame["type"] in TERMINAL:
                    found.setdefault(frame["turn"], set()).add(record.value or b"")
        return found

    async def all_ended(self, count: int, within_s: float = 40.0) -> dict[str, set[bytes]]:
        async with asyncio.timeout(within_s):
            while len(found := await self.terminals()) < count:
                await asyncio.sleep(0.3)
        return found

    async def attempts(self, session: str, turn: str) -> int:
        store = MongoStore(self.mongo)
        try:
            await store.start()
            view = await turn_view(store.journal, f"default/{session}", turn)
            assert view is not None
            return view.attempt
        finally:
            await store.stop()

    def done(self) -> Counter[str]:
        """How often each step was done: `turn number`."""
        return Counter(self.steps_log.read_text().splitlines())

    async def until_done(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.done()) < count:
                await asyncio.sleep(0.02)


@pytest.fixture
async def house(
    apache_kafka: KafkaAddress, mongo: Mongo, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[House]:
    made = House(apache_kafka.address, mongo.uri, tmp_path, **getattr(request, "param", {}))
    admin = KafkaAdmin(made.kafka)
    await apply(admin, load_topics(), 1)
    await admin.stop()
    await made.publisher.start()
    yield made
    await made.publisher.stop()
    for worker in made.workers:
        worker.process.kill()
        worker.process.wait()


def turns_of(found: dict[str, set[bytes]]) -> Counter[str]:
    """How many of which type; every turn has exactly one end."""
    assert all(len(frames) == 1 for frames in found.values())
    return Counter(json.loads(next(iter(frames)))["type"] for frames in found.values())


@pytest.mark.parametrize("house", [{"worker_drain_s": "0.3", "worker_grace_s": "10"}], indirect=True)
async def test_a_rolling_restart_under_load_fails_no_turn_and_a_drain_does_no_step_twice(house: House) -> None:
    workers = [await Worker(house).ready() for _ in range(2)]
    sent, enough = 0, asyncio.Event()

    async def load() -> None:
        nonlocal sent
        while not enough.is_set():
            await house.send(f"s{sent % 40}", f"t{sent}", "6 0.1")
            sent += 1
            await asyncio.sleep(0.03)

    loading = asyncio.create_task(load())
    await house.until_done(60)
    took = []
    for worker in workers:
        worker.signal()
        code, took_s = await worker.ended(within_s=10)
        took.append(took_s)
        assert code == 0, house.log.read_text()[-2_000:]
        await (await Worker(house).ready()).readyz()
        await asyncio.sleep(0.5)
    enough.set()  # not cancelled: what is on its way counts
    await loading
    found = await house.all_ended(sent)
    assert turns_of(found) == {"completed": sent}
    attempts = {turn: json.loads(next(iter(frames)))["attempt"] for turn, frames in found.items()}
    redone: Counter[str] = Counter()
    for step, times in house.done().items():
        redone[step.split()[0]] += times - 1
    moved = sum(attempt > 1 for attempt in attempts.values())
    drains = [json.loads(line) for line in house.log.read_text().splitlines() if '"drained"' in line]
    print(f"{sent} turns, {moved} moved, {drains}, {redone.total()} steps done again, drained in {took} s")
    assert len(house.done()) == 6 * sent
    assert moved > 5
    assert all(times < attempts[turn] for turn, times in redone.items()), "one step a moved turn, at most"
    handed_over = sum(drain["handed_over"] for drain in drains)
    assert redone.total() <= moved - handed_over, "those by a rebalance alone: a drain does no step again"


@pytest.mark.parametrize("house", [{"worker_drain_s": "30", "worker_grace_s": "60"}], indirect=True)
async def test_a_second_signal_ends_it_at_once_and_one_step_a_turn_is_done_again(house: House) -> None:
    worker = await Worker(house).ready()
    for n in range(20):
        await house.send(f"s{n}", f"t{n}", "2 6")
    await house.until_done(20)
    worker.signal()
    await asyncio.sleep(0.5)
    status, body = await worker.readyz()
    assert (status, json.loads(body)["reasons"]) == (503, {"worker": "draining"})
    worker.signal()
    code, took_s = await worker.ended(within_s=5)
    assert (code, took_s < 3) == (0, True), house.log.read_text()[-2_000:]
    await Worker(house).ready()
    assert turns_of(await house.all_ended(20)) == {"completed": 20}
    done = house.done()
    assert {n: done[f"t{n} 0"] for n in range(20)} == dict.fromkeys(range(20), 2)
    assert {n: done[f"t{n} 1"] for n in range(20)} == dict.fromkeys(range(20), 1)
    assert {await house.attempts(f"s{n}", f"t{n}") for n in range(20)} == {2}


@pytest.mark.parametrize("house", [{"worker_drain_s": "0.2", "worker_grace_s": "4"}], indirect=True)
async def test_an_agent_that_swallows_its_cancellation_does_not_keep_the_process(house: House) -> None:
    worker = await Worker(house).ready()
    await house.send("s1", "t1", "1 0", agent="stubborn")
    await house.until_done(1)
    worker.signal()
    code, took_s = await worker.ended(within_s=10)
    assert (code, took_s < 4.5) == (0, True), house.log.read_text()[-2_000:]


async def test_a_signal_while_it_joins_is_a_drain(house: House) -> None:
    worker = Worker(house)
    async with asyncio.timeout(20):
        while worker.process.poll() is None and b"worker started" not in house.log.read_bytes():
            await asyncio.sleep(0.01)
    worker.signal()
    code, took_s = await worker.ended(within_s=10)
    assert (code, took_s < 5) == (0, True), house.log.read_text()[-2_000:]
    assert "drained" in house.log.read_text()
