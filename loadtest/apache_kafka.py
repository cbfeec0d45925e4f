"""Apache Kafka itself for a run, where a JVM (17) and Maven are: one KRaft broker, or several. Knows how it is fetched
and started, nothing of topics."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.num.partitions": "5",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "auto.create.topics.enable": "false",
}
REPLICAS = 3
"""Of the broker's own topics, where there are so many brokers."""
HEAP_ALONE, HEAP_OF_MANY = "512m", "400m"
FETCH_S, FORMAT_S = 600, 60


@dataclass(frozen=True, slots=True)
class Node:
    """One broker, which is a controller as well. `doors`: more ports to listen on, each with the port at which who
    comes in there is told to find the broker (a proxy's, say). By the n-th door one is led to the n-th of the others.
    """

    port: int = field(default_factory=free_port)
    controller: int = field(default_factory=free_port)
    doors: Mapping[int, int] = field(default_factory=dict)


def available() -> bool:
    """Whether this machine has what Apache Kafka needs."""
    return all(shutil.which(tool) for tool in ("java", "mvn"))


def command(folder: Path, port: int) -> list[str]:
    """The command that serves one broker on `port`; otherwise as `commands`."""
    return commands(folder, [Node(port)])[0]


def commands(folder: Path, nodes: Sequence[Node]) -> list[list[str]]:
    """Fetch the jars once into the user's cache, format a new log directory for each node in `folder`; the commands
    that serve them as one cluster. Takes seconds and blocks. Raises PartFailed."""
    heap = HEAP_ALONE if len(nodes) == 1 else HEAP_OF_MANY
    java = ["java", f"-Xmx{heap}", "-cp", f"{_libraries()}/*"]
    tool = [*java, "kafka.tools.StorageTool"]
    cluster = _output([*tool, "random-uuid"], FORMAT_S).split()[-1]
    configs = [_written(folder, number, nodes) for number in range(1, len(nodes) + 1)]
    for config in configs:
        _output([*tool, "format", "-t", cluster, "-c", str(config)], FORMAT_S)
    return [[*java, "kafka.Kafka", str(config)] for config in configs]


def _written(folder: Path, number: int, nodes: Sequence[Node]) -> Path:
    """The settings of the node with this number, from 1 on."""
    voters = ",".join(f"{place}@127.0.0.1:{node.controller}" for place, node in enumerate(nodes, 1))
    own = {"node.id": str(number), "controller.quorum.voters": voters, "log.dirs": str(folder / f"kafka-{number}")}
    settings = SETTINGS | _copies(min(len(nodes), REPLICAS)) | own | _places(nodes[number - 1])
    config = folder / f"server-{number}.properties"
    config.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), "utf-8")
    return config


def _copies(replicas: int) -> dict[str, str]:
    """One broker may be missing where there are several; of our own topics topics.yaml says it."""
    least = str(max(1, replicas - 1))
    return {
        "offsets.topic.replication.factor": str(replicas),
        "transaction.state.log.replication.factor": str(replicas),
        "transaction.state.log.min.isr": least,
        "min.insync.replicas": least,
    }


def _places(node: Node) -> dict[str, str]:
    names = {f"DOOR{number}": door for number, door in enumerate(node.doors.items())}
    inside = [f"{name}://127.0.0.1:{listening}" for name, (listening, _) in names.items()]
    outside = [f"{name}://127.0.0.1:{told}" for name, (_, told) in names.items()]
    own, control = f"PLAINTEXT://127.0.0.1:{node.port}", f"CONTROLLER://127.0.0.1:{node.controller}"
    protocols = [SETTINGS["listener.security.protocol.map"], *(f"{name}:PLAINTEXT" for name in names)]
    return {
        "listener.security.protocol.map": ",".join(protocols),
        "listeners": ",".join([own, control, *inside]),
        "advertised.listeners": ",".join([own, *outside]),
        "inter.broker.listener.name": "PLAINTEXT",
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
