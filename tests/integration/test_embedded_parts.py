"""The embedded broker, database and model themselves: second start, other port, kill -9. Real programs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from pymongo import AsyncMongoClient, WriteConcern

from fleet import broker_part, model_part, mongod_part
from fleet.data_dir import DataDir
from fleet.part import Part, PartFailed, Run
from fleet.topics import apply, check, provision, regroup
from schemas.settings import KafkaSettings
from tests.support.ports import free_port


@asynccontextmanager
async def running(part: Part, *, crash: bool = False) -> AsyncIterator[Run]:
    run = await Run.start(part, os.environ)
    try:
        await run.until_ready(timeout_s=30)
        yield run
    finally:
        if crash:
            run.kill()
            await run.until_ended()
        await run.stop()


async def count_after_insert(port: int) -> int:
    uri = mongod_part.uri(port)
    async with AsyncMongoClient[dict[str, object]](uri, serverSelectionTimeoutMS=5_000) as client:
        things = client["test"].get_collection("things", write_concern=WriteConcern("majority", j=True))
        await things.insert_one({"some": "thing"})
        return await things.count_documents({})


@pytest.mark.parametrize("crash", [False, True])
async def test_the_database_continues_with_its_data_on_another_port(tmp_path: Path, crash: bool) -> None:
    data = DataDir(tmp_path)
    for number in (1, 2, 3):
        port = free_port()
        async with running(mongod_part.mongod_part(data, port), crash=crash):
            assert await count_after_insert(port) == number


async def test_the_database_is_small_and_listens_only_here(tmp_path: Path) -> None:
    port = free_port()
    async with running(mongod_part.mongod_part(DataDir(tmp_path), port)):
        written = sum(file.stat().st_blocks * 512 for file in (tmp_path / "mongod").rglob("*") if file.is_file())
        assert written < 64 * 2**20
        async with AsyncMongoClient[dict[str, object]](mongod_part.uri(port)) as client:
            options = await client.admin.command("getCmdLineOpts")
    assert options["parsed"]["net"]["bindIp"] == "127.0.0.1"


async def test_a_database_directory_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    part = mongod_part.mongod_part(DataDir(tmp_path), free_port())
    (tmp_path / "mongod" / "storage.bson").write_text("not what it wrote")
    with pytest.raises(PartFailed) as caught:
        async with running(part):
            pass
    assert caught.value.text.startswith("the database ended with exit code")
    assert caught.value.tail


async def test_the_broker_keeps_topics_over_a_restart_on_another_port(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    settings: list[KafkaSettings] = []

    async def prepare() -> None:
        await provision(settings[-1])

    for _ in (1, 2):
        port = free_port()
        settings.append(KafkaSettings(kafka_bootstrap=f"127.0.0.1:{port}"))
        async with running(broker_part.broker_part(data, port, prepare=prepare)):
            assert [found for found in await check(settings[-1]) if found.is_drift] == []
            assert await apply(settings[-1]) == ((), ())


async def test_the_broker_starts_after_it_was_killed(tmp_path: Path) -> None:
    data = DataDir(tmp_path)

    async def prepare() -> None:
        await provision(settings)

    for _ in (1, 2):
        port = free_port()
        settings = KafkaSettings(kafka_bootstrap=f"127.0.0.1:{port}")
        async with running(broker_part.broker_part(data, port, prepare=prepare), crash=True):
            assert [found for found in await check(settings) if found.is_drift] == []


MEMBER = """
import asyncio, sys
from aiokafka import AIOKafkaConsumer
async def main():
    settings = {"heartbeat_interval_ms": 300, "enable_auto_commit": False}
    consumer = AIOKafkaConsumer("agent.turns", bootstrap_servers=sys.argv[1], group_id="workers", **settings)
    await consumer.start()
    print("joined", flush=True)
    while True:
        await consumer.getmany(timeout_ms=200)
asyncio.run(main())
"""


@pytest.mark.timeout(40)
async def test_the_living_members_of_the_group_go_on_after_its_leader_was_killed(tmp_path: Path) -> None:
    port = free_port()
    settings = KafkaSettings(kafka_bootstrap=f"127.0.0.1:{port}")

    async def prepare() -> None:
        await provision(settings)
        await regroup(settings)

    async with running(broker_part.broker_part(DataDir(tmp_path), port, prepare=prepare)):
        leader = subprocess.Popen([sys.executable, "-c", MEMBER, settings.kafka_bootstrap], stdout=subprocess.PIPE)
        other = AIOKafkaConsumer(
            "agent.turns",
            bootstrap_servers=settings.kafka_bootstrap,
            group_id="workers",
            heartbeat_interval_ms=300,
            enable_auto_commit=False,
        )
        try:
            assert leader.stdout is not None
            leader.stdout.readline()
            await other.start()
            assert len(other.assignment()) == 6
            leader.kill()
            leader.wait()
            await regroup(settings)
            async with asyncio.timeout(6):
                while len(other.assignment()) != 12:
                    await other.getmany(timeout_ms=100)
        finally:
            leader.kill()
            leader.communicate()
            await other.stop()


async def test_the_local_model_streams_an_answer_with_its_usage(tmp_path: Path) -> None:
    port = free_port()
    wanted = {
        "model": "smollm2",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 8,
        "messages": [{"role": "user", "content": "Say hello."}],
    }
    async with running(model_part.model_part(DataDir(tmp_path), port, name="smollm2")):
        request = urllib.request.Request(
            f"{model_part.url(port)}/chat/completions",
            json.dumps(wanted).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            events = [line[6:] for line in response.read().decode().splitlines() if line.startswith("data: {")]
    chunks = [json.loads(event) for event in events]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
    assert chunks[-1]["usage"]["completion_tokens"] > 0
