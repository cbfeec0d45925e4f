"""`python -m gateway` as a process, on the embedded broker and a real mongod: refuses, serves, loses, drains."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from broker.kafka_admin import KafkaAdmin
from broker.port import TopicState
from broker.topics import apply
from schemas.settings import KafkaSettings
from schemas.topics import load_topics
from tests.support.mongod import Mongo, bare_mongod, replica_set
from tests.support.noida import FLUSHED_S, noida, noida_broker
from tests.support.ports import free_port
from tests.support.process import Server

__all__ = ["noida"]
Environment = dict[str, str]


def environment(broker: str, mongo: str, prefix: str) -> Environment:
    return {
        "FLEET_KAFKA_BOOTSTRAP": broker,
        "FLEET_MONGO_URI": mongo,
        "FLEET_MONGO_DATABASE": f"t{uuid.uuid4().hex[:12]}",
        "FLEET_TOPIC_PREFIX": prefix,
        "FLEET_GATEWAY_PORT": str(free_port()),
    }


async def provide_topics(broker: str, prefix: str, *, but: dict[str, int] | None = None) -> None:
    """All topics of topics.yaml; `but`: with another number of partitions."""
    admin = KafkaAdmin(KafkaSettings(kafka_bootstrap=broker, topic_prefix=prefix))
    try:
        for name, partitions in (but or {}).items():
            await admin.create(TopicState(name, partitions, 1, {}))
        await apply(admin, load_topics(), 1)
    finally:
        await admin.stop()


def started(env: Environment, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen([sys.executable, "-m", "gateway"], env={**os.environ, **env}, stdout=out, stderr=out)


def refusal(env: Environment, log: Path) -> tuple[int, float, str]:
    """Exit code, seconds until it was there, and what stood on stderr."""
    began = time.monotonic()
    process = started(env, log)
    try:
        code = process.wait(30)
    finally:
        process.kill()
        process.wait()
    return code, time.monotonic() - began, log.read_text()


@contextmanager
def gateway(env: Environment, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A gateway that is ready; ended by pid."""
    process = started(env, log)
    try:
        await_ready(env, 200, 20)
        yield process
    finally:
        process.kill()
        process.wait()


def readiness(env: Environment) -> tuple[int, str]:
    """The status of /readyz (0: nobody answers) and what it says."""
    try:
        said = httpx.get(f"http://127.0.0.1:{env['FLEET_GATEWAY_PORT']}/readyz", timeout=10, trust_env=False)
    except httpx.TransportError as error:
        return 0, repr(error)
    return said.status_code, said.text


def await_ready(env: Environment, status: int, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while (seen := readiness(env))[0] != status:
        assert time.monotonic() < deadline, f"/readyz says {seen}, not {status}, after {within_s} s"
        time.sleep(0.2)


def assert_refused(env: Environment, log: Path, says: str) -> None:
    code, took_s, text = refusal(env, log)

    assert code == 2, text
    assert took_s < 12, "10 s, and the start of Python on a busy machine"
    assert "Traceback" not in text
    sentences = [line for line in text.splitlines() if line.startswith("gateway: ")]
    assert len(sentences) == 1
    assert re.search(says, sentences[0]), sentences[0]


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex[:8]}."


def test_an_unreachable_broker_is_refused(mongo: Mongo, tmp_path: Path, prefix: str) -> None:
    assert_refused(
        environment(f"127.0.0.1:{free_port()}", mongo.uri, prefix), tmp_path / "log", "check FLEET_KAFKA_BOOTSTRAP"
    )


def test_missing_topics_are_refused(noida: Server, mongo: Mongo, tmp_path: Path, prefix: str) -> None:
    assert_refused(environment(noida.address, mongo.uri, prefix), tmp_path / "log", "run `fleet topics apply`")


async def test_a_wrong_number_of_partitions_is_refused(
    noida: Server, mongo: Mongo, tmp_path: Path, prefix: str
) -> None:
    await provide_topics(noida.address, prefix, but={"agent.turns": 3})

    env = environment(noida.address, mongo.uri, prefix)
    assert_refused(env, tmp_path / "log", r"agent\.turns: its number of partitions is 3.*FLEET_TOPIC_PREFIX")


def test_an_unreachable_database_is_refused(noida: Server, tmp_path: Path, prefix: str) -> None:
    env = environment(noida.address, f"mongodb://127.0.0.1:{free_port()}/?replicaSet=rs0", prefix)
    assert_refused(env, tmp_path / "log", "No MongoDB answers at .* FLEET_MONGO_URI")


def test_a_standalone_mongod_is_refused(noida: Server, tmp_path: Path, prefix: str) -> None:
    with bare_mongod() as alone:
        assert_refused(
            environment(noida.address, f"mongodb://{alone.address}/", prefix), tmp_path / "log", "replica set"
        )


def test_no_address_at_all_is_refused(tmp_path: Path) -> None:
    assert_refused(environment("", "", "t."), tmp_path / "log", "FLEET_MONGO_URI is empty")


async def test_a_port_that_is_taken_is_refused(noida: Server, mongo: Mongo, tmp_path: Path, prefix: str) -> None:
    await provide_topics(noida.address, prefix)
    env = environment(noida.address, mongo.uri, prefix)
    env["FLEET_GATEWAY_PORT"] = str(noida.port)

    assert_refused(env, tmp_path / "log", "set FLEET_GATEWAY_PORT")


async def test_it_serves_drains_at_sigterm_and_logs_lines_for_programs(
    noida: Server, mongo: Mongo, tmp_path: Path, prefix: str
) -> None:
    await provide_topics(noida.address, prefix)
    env, log = environment(noida.address, mongo.uri, prefix), tmp_path / "log"
    with gateway(env, log) as process:
        uri = f"ws://127.0.0.1:{env['FLEET_GATEWAY_PORT']}/v1/ws"
        with connect(uri, subprotocols=[Subprotocol("turnfleet.v1")], proxy=None) as socket:
            assert json.loads(socket.recv(5))["type"] == "hello"
            socket.send(json.dumps({"type": "turn", "session": "s1", "turn": "t1", "text": "hi"}))
            accepted = json.loads(socket.recv(5))
            process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(10)
        assert process.wait(15) == 0

    assert (accepted["type"], accepted["turn"]) == ("accepted", "t1")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["message"] for line in lines if line["level"] == "info"] == ["listening", "draining", "stopped"]
    assert any("development mode" in line["message"] for line in lines)


async def test_what_is_lost_at_run_time_is_told_and_regained(tmp_path: Path, prefix: str) -> None:
    with noida_broker() as broker, replica_set() as mongo:
        if mongo.server is None:
            pytest.skip("the database runs in a container here")
        await provide_topics(broker.address, prefix)
        env = environment(broker.address, mongo.uri, prefix)
        env["FLEET_KAFKA_PUBLISH_TIMEOUT_S"] = "2"
        with gateway(env, tmp_path / "log") as process:
            turns = f"http://127.0.0.1:{env['FLEET_GATEWAY_PORT']}/v1/sessions/s1/turns"
            await asyncio.sleep(FLUSHED_S)
            broker.kill()
            await_ready(env, 503, 15)
            lost = httpx.post(turns, json={"text": "hi", "turn": "t1"}, timeout=10, trust_env=False)
            broker.start()
            await_ready(env, 200, 25)
            found = httpx.post(turns, json={"text": "hi", "turn": "t1"}, timeout=10, trust_env=False)
            mongo.server.kill()
            await_ready(env, 503, 15)
            unread = httpx.post(turns, json={"text": "hi", "turn": "t2"}, timeout=20, trust_env=False)
            mongo.server.start()
            await_ready(env, 200, 30)
            assert process.poll() is None

    assert (lost.status_code, lost.json()["code"]) in {(503, "publish_unknown"), (503, "unavailable")}
    assert lost.json()["turn"] == "t1"
    assert found.status_code == 202
    assert (unread.status_code, unread.json()["code"]) == (503, "unavailable")
