"""The operator's commands on a real mongod, and a real worker whose servers go with it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from typer.testing import CliRunner

from broker.kafka_admin import KafkaAdmin
from broker.topics import apply
from fleet.__main__ import app
from fleet.exits import CommandError, Exit
from schemas.settings import KafkaSettings
from schemas.topics import load_topics
from tests.support.mcp_hosts import hostile
from tests.support.mongod import Mongo
from tests.support.process import Server

Give = Callable[..., None]


@pytest.fixture
def give(mongo: Mongo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Give:
    """Write the file of servers, and point the settings to it and to a database of our own."""
    monkeypatch.setenv("FLEET_MONGO_URI", mongo.uri)
    monkeypatch.setenv("FLEET_MONGO_DATABASE", f"t{uuid.uuid4().hex[:12]}")
    monkeypatch.setenv("FLEET_MCP", str(tmp_path / "mcp.yaml"))

    def write(**servers: Any) -> None:
        (tmp_path / "mcp.yaml").write_text(yaml.safe_dump({"servers": servers}, sort_keys=False))

    return write


def run(*command: str, code: Exit = Exit.OK) -> Any:
    """What a command prints, as JSON where it is."""
    result = CliRunner().invoke(app, ["agents", *command])
    if isinstance(result.exception, CommandError):
        assert result.exception.code == code
        return result.exception.text
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if "--json" in command else result.stdout


def test_a_check_reads_the_file_and_connects_only_when_asked(give: Give, tmp_path: Path) -> None:
    give(it=hostile(tools={"good": {}}, others=None), gone=hostile("dies", prefix="gone_"))
    assert [row["server"] for row in run("check", "--json")] == ["it", "gone"]

    rows = {row["server"]: row for row in run("check", "--connect", "--json", code=Exit.DIFFERENT)}
    assert rows["it"]["tools"] == [{"tool": "good", "called": "good", "pin": "accepted"}]
    assert "cannot work like this" in rows["gone"]["away"]
    assert "good" in run("check", "--connect", code=Exit.DIFFERENT)

    (tmp_path / "mcp.yaml").write_text("servers: {it: {transport: stdio}}")
    assert "command belongs to transport stdio" in run("check", code=Exit.USAGE)


def test_pins_are_listed_accepted_and_revoked(give: Give, tmp_path: Path) -> None:
    place = tmp_path / "description"
    place.write_text("Reads")
    give(it=hostile("changing", variables={"PLACE": str(place)}))
    run("check", "--connect")
    assert [(pin["tool"], pin["state"]) for pin in run("pins", "list", "--json")] == [("good", "accepted")]
    assert run("pins", "list", "--waiting", "--json") == []

    place.write_text("Sends")
    (row,) = run("check", "--connect", "--json")
    assert row["tools"][0]["pin"] == "suspended"
    (pin,) = run("pins", "list", "--waiting", "--json")
    assert (pin["state"], pin["description"]) == ("changed", "Sends")

    assert "look again" in run("pins", "accept", "it", "good", "--digest", pin["accepted"], code=Exit.DIFFERENT)
    assert "accepted" in run("pins", "accept", "it", "good", "--digest", pin["offered"][:12])
    assert run("check", "--connect", "--json")[0]["tools"][0]["pin"] == "accepted"
    run("pins", "revoke", "it", "good")
    assert run("check", "--connect", "--json")[0]["tools"][0]["pin"] == "suspended"
    assert run("pins", "list", "--json")[0]["state"] == "new"
    assert "no worker has seen a tool 'none'" in run("pins", "accept", "it", "none", code=Exit.DIFFERENT)


def servers(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that became a server by now."""
    found = []
    for process in processes:
        with suppress(psutil.Error):
            if "hostile_server.py" in " ".join(process.cmdline()):
                found.append(process)
    return found


async def test_a_workers_servers_are_opened_with_it_and_go_with_it(
    give: Give, noida: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prefix = f"t{uuid.uuid4().hex[:10]}."
    give(it=hostile("ignores-eof", warm=True), cold=hostile(prefix="cold_"))
    for name, value in {"KAFKA_BOOTSTRAP": noida.address, "TOPIC_PREFIX": prefix, "AGENT": "echo"}.items():
        monkeypatch.setenv(f"FLEET_{name}", value)
    kafka = KafkaSettings()
    admin = KafkaAdmin(kafka)
    await apply(admin, load_topics(kafka.topics_file))
    await admin.stop()
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen([sys.executable, "-m", "workers"], env=dict(os.environ), stdout=log, stderr=log)
    try:
        children: list[psutil.Process] = []
        async with asyncio.timeout(60):
            while not servers(children):
                assert worker.poll() is None, (tmp_path / "log").read_text()[-2_000:]
                await asyncio.sleep(0.2)
                children = psutil.Process(worker.pid).children(recursive=True)
        opened = servers(children)
    finally:
        worker.kill()
        worker.wait()
    assert len(opened) == 1  # not the cold one
    await asyncio.to_thread(psutil.wait_procs, children, 10)
    assert not any(child.is_running() and child.status() != "zombie" for child in children)
