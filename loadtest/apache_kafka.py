"""Apache Kafka itself for a run, where a JVM (17) and Maven are: one KRaft broker. Knows how it is fetched and
started, nothing of topics."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from loadtest.processes import PartFailed, free_port

VERSION = "4.1.1"
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>turnfleet</groupId><artifactId>load-kafka</artifactId><version>1</version><packaging>pom</packaging>
<dependencies><dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
<version>{VERSION}</version></dependency><dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId>
<version>1.7.36</version></dependency></dependencies></project>
"""
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
}
FETCH_S, FORMAT_S = 600, 60


def available() -> bool:
    """Whether this machine has what Apache Kafka needs."""
    return all(shutil.which(tool) for tool in ("java", "mvn"))


def command(folder: Path, port: int, doors: Mapping[int, int] | None = None) -> list[str]:
    """Fetch the jars once into the user's cache, format a new log directory in `folder`; the command that serves it on
    `port`. `doors`: more ports to listen on, each with the port at which who comes in there is told to find the broker
    (a proxy's, say). Takes seconds and blocks. Raises PartFailed."""
    settings = SETTINGS | _places(folder, port, free_port(), doors or {})
    config = folder / "server.properties"
    config.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), "utf-8")
    java = ["java", "-Xmx512m", "-cp", f"{_libraries()}/*"]
    tool = [*java, "kafka.tools.StorageTool"]
    cluster = _output([*tool, "random-uuid"], FORMAT_S).split()[-1]
    _output([*tool, "format", "-t", cluster, "-c", str(config)], FORMAT_S)
    return [*java, "kafka.Kafka", str(config)]


def _places(folder: Path, port: int, controller: int, doors: Mapping[int, int]) -> dict[str, str]:
    names = {f"DOOR{number}": door for number, door in enumerate(doors.items())}
    inside = [f"{name}://127.0.0.1:{listening}" for name, (listening, _) in names.items()]
    outside = [f"{name}://127.0.0.1:{told}" for name, (_, told) in names.items()]
    protocols = [SETTINGS["listener.security.protocol.map"], *(f"{name}:PLAINTEXT" for name in names)]
    return {
        "log.dirs": str(folder / "kafka"),
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": ",".join(protocols),
        "listeners": ",".join([f"PLAINTEXT://127.0.0.1:{port}", f"CONTROLLER://127.0.0.1:{controller}", *inside]),
        "advertised.listeners": ",".join([f"PLAINTEXT://127.0.0.1:{port}", *outside]),
    }


def _libraries() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "turnfleet" / f"kafka-{VERSION}"
    if not (cache / "complete").exists():
        cache.mkdir(parents=True, exist_ok=True)
        (cache / "pom.xml").write_text(POM, "utf-8")
        fetch = ["mvn", "-q", "-B", "-f", str(cache / "pom.xml"), "dependency:copy-dependencies"]
        _output([*fetch, f"-DoutputDirectory={cache / 'libs'}"], FETCH_S)
        (cache / "complete").touch()
    return cache / "libs"


def _output(arguments: list[str], timeout_s: float) -> str:
    try:
        return subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=timeout_s).stdout
    except (OSError, subprocess.SubprocessError) as failed:
        told = getattr(failed, "stderr", None) or ""
        raise PartFailed(f"Apache Kafka could not be prepared: {failed} {told[-500:]}") from failed
