"""Dead letters end to end: a real worker process, the embedded broker, a real mongod, and the commands as typed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from broker.kafka_admin import KafkaAdmin
from broker.kafka_publisher import KafkaPublisher
from broker.kafka_scan import KafkaScan
from broker.port import Outgoing, Record
from broker.topics import apply
from fleet.__main__ import app
from journal.mongo import MongoStore
from journal.turns import TurnView, turn_view
from schemas.settings import KafkaSettings, MongoSettings
from schemas.topics import load_topics
from tests.support.mongod import Mongo
from tests.support.poison import claimed
from tests.support.process import Server

TURNS = "agent.turns"


@pytest.fixture
def env(noida: Server, mongo: Mongo, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What commands and worker read; set for this process too."""
    made = {
        "FLEET_KAFKA_BOOTSTRAP": noida.address,
        "FLEET_TOPIC_PREFIX": f"t{uuid.uuid4().hex[:10]}.",
        "FLEET_MONGO_URI": mongo.uri,
        "FLEET_MONGO_DATABASE": f"t{uuid.uuid4().hex[:12]}",
        "FLEET_WORKER_TRIES": "1",
        "FLEET_AGENT": "echo",
    }
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    return made


@contextmanager
def worker(env: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-m", "workers"], env={**os.environ, **env}, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


async def published() -> None:
    """A turn that its journal says was tried once too often, and two of an agent that nobody knows."""
    kafka, store = KafkaSettings(), MongoStore(MongoSettings())
    admin, publisher = KafkaAdmin(kafka), KafkaPublisher(kafka, (TURNS,))
    try:
        await apply(admin, load_topics(), 1)
        await asyncio.gather(store.start(), publisher.start())
        headers = (("ce_id", b"t1"), ("x-mine", b"\x00\xff"))
        await publisher.send(Outgoing(TURNS, b"s1", b'{ "turn":"t1", "text":"boom" }', headers=headers))
        await claimed(store, (await read(TURNS))[0])
        for n in range(2):
            await publisher.send(Outgoing(TURNS, b"s2", b'{"text":"%d","agent":"missing"}' % n))
    finally:
        await asyncio.gather(publisher.stop(), admin.stop(), store.stop())


async def read(topic: str) -> list[Record]:
    return [record async for records in KafkaScan(KafkaSettings()).read(topic) for record in records]


async def seen(session: str, turn: str) -> TurnView | None:
    store = MongoStore(MongoSettings())
    try:
        await store.start()
        return await turn_view(store.journal, f"default/{session}", turn)
    finally:
        await store.stop()


def fleet(*arguments: str) -> Any:
    result = CliRunner().invoke(app, ["dead-letters", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def until(what: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """The first answer that is one."""
    end_s = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < end_s, "not in time"
        time.sleep(0.2)
    return found


def test_letters_are_listed_shown_redriven_once_and_discarded(env: dict[str, str], tmp_path: Path) -> None:
    asyncio.run(published())
    with worker(env, tmp_path / "worker.log"):
        until(lambda: len(fleet("list")["letters"]) == 3)
        (poison,) = fleet("list", "--code", "poison", "--session", "s1", "--since", "1h")["letters"]
        assert poison["attempts"] == 1
        shown = fleet("show", poison["id"])
        assert (shown["turn"], shown["value"]) == ("t1", '{ "turn":"t1", "text":"boom" }')
        assert shown["headers"] == [["ce_id", "t1"], ["x-mine", None]]
        (done,) = fleet("redrive", poison["id"])["letters"]
        assert done["turn"].startswith("redrive-")
        view = until(lambda: (now := asyncio.run(seen("s1", done["turn"]))) and now.outcome and now)
        assert (view.outcome, view.input.text) == ("completed", "boom")
        (again,) = fleet("redrive", poison["id"])["letters"]
        assert (again["published"], again["turn"]) == (False, done["turn"])
        refused = fleet("list", "--code", "agent_unknown")["letters"]
        assert fleet("discard", refused[0]["id"])["letters"][0]["state"] == "discarded"
        assert [one["published"] for one in fleet("redrive", "--all", "--code", "agent_unknown")["letters"]] == [True]
        (once_more,) = until(lambda: fleet("list")["letters"])  # nobody knows the agent yet: refused again
        assert once_more["id"] not in {one["id"] for one in refused}
        assert len(fleet("list", "--all-states")["letters"]) == 4
    records = asyncio.run(read(TURNS))
    assert [json.loads(one.value or b"")["text"] for one in records if one.key == b"s1"] == ["boom", "boom"]
    assert [json.loads(one.value or b"")["text"] for one in records if one.key == b"s2"] == ["0", "1", "1"]
