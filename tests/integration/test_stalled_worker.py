"""Real workers on Apache Kafka and mongod whose loop an agent blocks, or whose process is stopped and woken: what they
held goes on elsewhere, they write nothing that counts, and they serve again."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGPROF, SIGSTOP

import pytest

from broker.kafka_admin import KafkaAdmin
from broker.kafka_scan import KafkaScan
from broker.topics import apply
from journal.mongo import MongoStore
from journal.port import Row
from schemas.settings import KafkaSettings, MongoSettings
from schemas.topics import load_topics
from tests.e2e import clients
from tests.support.kafka_jvm import KafkaAddress
from tests.support.mongod import Mongo
from tests.support.worker_process import WorkerProcess
from workers.watchdog import BLOCKED

pytestmark = [pytest.mark.kafka_jvm, pytest.mark.timeout(170)]
TIMEOUT_S, RESTART_S = 3.0, 6.0
SESSIONS = 24
PARTITIONS = next(topic.partitions for topic in load_topics().topics if topic.name == "agent.turns")


class House:
    """Topics and a database of their own, workers, a producer that reads the replies."""

    def __init__(self, kafka: KafkaAddress, mongo: Mongo, folder: Path) -> None:
        self.prefix = f"t{uuid.uuid4().hex[:10]}."
        self.settings = KafkaSettings(kafka_bootstrap=kafka.address, topic_prefix=self.prefix)
        self.mongo: MongoSettings = mongo.settings()
        self.store = MongoStore(self.mongo)
        self.client = clients.Kafka(kafka.address, self.prefix)
        self.workers: list[WorkerProcess] = []
        self._folder = folder
        self._environment = {
            "FLEET_KAFKA_BOOTSTRAP": kafka.address,
            "FLEET_TOPIC_PREFIX": self.prefix,
            "FLEET_MONGO_URI": self.mongo.mongo_uri,
            "FLEET_MONGO_DATABASE": self.mongo.mongo_database,
            "FLEET_AGENTS": "tests.support.bad_agents:agents",
            "FLEET_AGENT": "bad",
        }

    async def start(self, workers: int, *, kept: bool, timeout_s: float = TIMEOUT_S, named: bool = False) -> None:
        admin = KafkaAdmin(self.settings)
        try:
            await apply(admin, load_topics(), 1)
        finally:
            await admin.stop()
        await self.store.start()
        for number in range(workers):
            more = {"FLEET_KAFKA_SESSION_TIMEOUT_MS": f"{timeout_s * 1_000:.0f}"}
            more |= {"FLEET_WORKER_NAME": f"worker-{number}"} if named else {}
            worker = WorkerProcess(self._environment | more, self._folder / f"worker-{number}.log")
            self.workers.append(worker)
            worker.keep() if kept else worker.start()
        await self.until(self.shared)

    def shared(self) -> bool:
        """Whether every worker has partitions, and together they have all of them once."""
        told = [worker.lines("partitions assigned") for worker in self.workers]
        latest = [lines[-1]["partitions"] if lines else [] for lines in told]
        return all(latest) and sorted(number for some in latest for number in some) == list(range(PARTITIONS))

    async def turn(self, session: str, text: str, turn: str) -> None:
        await self.client.publish(session, {"text": text, "turn": turn})

    async def rows(self, session: str) -> list[Row]:
        return await self.store.journal.read(f"default/{session}", 0)

    async def until(self, what: Callable[[], object], within_s: float = 60.0) -> None:
        end_s = time.monotonic() + within_s
        while not what():
            assert time.monotonic() < end_s, "\n".join(worker.tail() for worker in self.workers)
            await asyncio.sleep(0.02)

    def ends(self) -> list[tuple[int, int]]:
        """(Moment in ms, exit code) of every process that ended by itself."""
        return sorted(end for worker in self.workers for end in worker.ended)

    def over(self, session: str, turn: str) -> dict[str, object] | None:
        return next((frame for frame in self.client.ends[session] if frame["turn"] == turn), None)

    async def letters(self) -> list[dict[str, str]]:
        """Headers of the dead letters."""
        scan = KafkaScan(self.settings)
        found = [record async for records in scan.read("agent.dead-letters") for record in records]
        return [{name: value.decode() for name, value in record.headers} for record in found]


@pytest.fixture
async def house(apache_kafka: KafkaAddress, mongo: Mongo, tmp_path: Path) -> AsyncIterator[House]:
    made = House(apache_kafka, mongo, tmp_path)
    try:
        yield made
    finally:
        for worker in made.workers:
            worker.end()
        await made.store.stop()


@pytest.mark.parametrize(("deed", "code"), [("sleep", BLOCKED), ("lock", -SIGPROF)])
async def test_a_turn_that_blocks_its_loop_is_a_dead_letter_after_three_tries_and_its_neighbours_go_on(
    house: House, deed: str, code: int
) -> None:
    await house.start(2, kept=True)
    async with house.client:
        took_s: list[float] = []
        over = asyncio.Event()

        async def neighbours() -> None:
            for number in range(1_000):
                if over.is_set():
                    return
                began_s = time.monotonic()
                sessions = [f"n{number}-{k}" for k in range(24)]
                for session in sessions:
                    await house.turn(session, "hello", "t1")
                await house.until(lambda: all(house.over(session, "t1") for session in sessions))  # noqa: B023
                took_s.append(time.monotonic() - began_s)
                assert all(house.over(session, "t1")["type"] == "completed" for session in sessions)  # type: ignore[index]
                await asyncio.sleep(0.1)

        going = asyncio.create_task(neighbours())
        await asyncio.sleep(1)
        await house.turn("s1", deed, "t1")
        await house.turn("s1", "next", "t2")
        await house.until(lambda: house.over("s1", "t2") and len(house.ends()) == 3, 90)
        over.set()
        await going
    assert [(frame["turn"], frame["type"], frame.get("code")) for frame in house.client.ends["s1"]] == [
        ("t1", "failed", "poison"),
        ("t2", "completed", None),
    ]
    ended = house.ends()
    assert [each for _, each in ended] == [code] * 3
    (letter,) = await house.letters()
    assert (letter["dl_code"], letter["dl_attempts"]) == ("poison", "3")
    claims = [row for row in await house.rows("s1") if row.kind == "claim" and '"turn":"t1"' in (row.body or "")]
    fenced_s = [(at_ms - claim.at_ms) / 1_000 for (at_ms, _), claim in zip(ended, claims, strict=True)]
    print(f"\n{deed}: from claim to the end {fenced_s} s; neighbours {len(took_s)} rounds, slowest {max(took_s):.1f} s")
    assert max(took_s) < 3 * TIMEOUT_S + RESTART_S, "each try costs its neighbours a block and a restart"
    if code == BLOCKED:
        assert all(seconds < TIMEOUT_S for seconds in fenced_s)
        seen = [line for worker in house.workers for line in worker.lines("this worker leaves the group and ends")]
        assert [(one["session"], one["turn"], one["agent"]) for one in seen] == [("s1", "t1", "bad")] * 3
        assert all("time.sleep(3_600)" in one["stack"] for one in seen)
    else:  # by CPU time, so it depends on who else wants the cores; nothing of the process runs until then
        assert any("bad_agents.py" in worker.log.read_text() for worker in house.workers)


async def test_a_killed_worker_that_is_started_again_under_its_name_waits_for_nobodys_session_timeout(
    house: House,
) -> None:
    timeout_s = 30.0
    await house.start(2, kept=True, timeout_s=timeout_s, named=True)
    async with house.client:
        for number in range(SESSIONS):
            await house.turn(f"s{number}", "steps 60", "t1")
        await house.until(lambda: sum(len(w.lines("turn started")) for w in house.workers) == SESSIONS)
        held = {line["session"] for line in house.workers[0].lines("turn started")}
        assert 0 < len(held) < SESSIONS
        killed_ms = now_ms()
        house.workers[0].signal(SIGKILL)

        def taken() -> set[str]:
            return {
                line["session"] for worker in house.workers for line in worker.lines("turn started", after_ms=killed_ms)
            }

        await house.until(lambda: held <= taken(), timeout_s)
        took_s = (now_ms() - killed_ms) / 1_000
        await house.until(lambda: all(house.over(f"s{number}", "t1") for number in range(SESSIONS)), 90)
    print(f"\nkilled and started again: {len(held)} turns went on within {took_s:.2f} s")
    assert took_s < timeout_s / 2
    for number in range(SESSIONS):
        rows = await house.rows(f"s{number}")
        check_no_entry_of_a_loser(rows)
        assert [row.kind for row in rows].count("step") == 60


async def test_a_worker_that_was_stopped_beyond_its_session_writes_nothing_of_its_turns_and_serves_again(
    house: House,
) -> None:
    await house.start(2, kept=False)
    loser, winner = house.workers
    async with house.client:
        for number in range(SESSIONS):
            await house.turn(f"s{number}", "steps 120", "t1")
        await house.until(lambda: sum(len(w.lines("turn started")) for w in house.workers) == SESSIONS)
        held = {line["session"] for line in loser.lines("turn started")}
        assert 0 < len(held) < SESSIONS
        await asyncio.sleep(1)
        loser.signal(SIGSTOP)
        stopped_ms = now_ms()
        await house.until(lambda: held <= {line["session"] for line in winner.lines("turn started")})
        taken_ms = now_ms()
        await asyncio.sleep(1)
        loser.signal(SIGCONT)
        woken_ms = now_ms()
        noticed = await loser.said("partitions assigned", after_ms=woken_ms)
        served_ms = 0
        for number in range(10_000):  # new turns until the loser has one
            await house.turn(f"new{number}", "hello", "t1")
            if mine := [
                line for line in loser.lines("turn started", after_ms=woken_ms) if line["session"][:3] == "new"
            ]:
                served_ms = mine[0]["at_ms"]
                break
            await asyncio.sleep(0.02)
        await house.until(lambda: all(house.over(f"s{number}", "t1") for number in range(SESSIONS)), 90)
        late = [
            frame["at_ms"] - woken_ms
            for session in held
            for frame in house.client.frames[session, "t1"]
            if frame["attempt"] == 1 and frame["at_ms"] > woken_ms
        ]
    for number in range(SESSIONS):
        rows = await house.rows(f"s{number}")
        check_no_entry_of_a_loser(rows)
        assert [row.kind for row in rows].count("step") == 120
        frames = house.client.ends[f"s{number}"]
        assert [frame["type"] for frame in frames] == ["completed"]
        assert frames[0]["text"] == "".join(f"{step} " for step in range(120))
    assert loser.alive
    assert not loser.lines("this worker leaves the group and ends")
    print(
        f"\ntaken over {taken_ms - stopped_ms} ms after SIGSTOP; of SIGCONT: assigned again "
        f"{noticed['at_ms'] - woken_ms} ms, a new turn {served_ms - woken_ms} ms; provisional frames of "
        f"the old attempt: {len(late)}, the last after {max(late, default=0)} ms"
    )
    assert max(late, default=0) < 1_000, "its turns are dropped within a second"
    assert noticed["at_ms"] - woken_ms < 2_000, "and the group, which waits for everybody's heartbeat, has it back"


def check_no_entry_of_a_loser(rows: list[Row]) -> None:
    """A process that lost its session to another one's CLAIM writes nothing more, unless it claims it again."""
    owner = ""
    for row in rows:
        incarnation = row.nonce.partition("-")[0]
        if row.kind == "claim":
            owner = incarnation
        assert incarnation == owner, f"{row.s} version {row.v}: {row.kind} of another than the last that claimed"


def now_ms() -> int:
    return time.time_ns() // 1_000_000
