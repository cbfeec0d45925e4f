"""Apache Kafka 4.1.1 for tests: KRaft brokers in JVMs, or one in a container where Docker answers.

Without a JVM (17) and Maven the tests are skipped with a line that says so; never where the variable CI is `true`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from loadtest.apache_kafka import Node
from loadtest.apache_kafka import commands as commands_of
from tests.support.ports import free_port
from tests.support.process import Server

VERSION = "4.1.1"
POM = Path(__file__).with_name("kafka_pom.xml")
LEAN = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""One compiler tier and one collector thread: it starts in half the CPU time, and tests ask little of it."""


@dataclass(frozen=True)
class KafkaAddress:
    """Where an Apache Kafka answers. `server` is None when it runs in a container."""

    address: str
    server: Server | None = None


def missing_tools() -> str | None:
    """One sentence about what this machine lacks to run Apache Kafka, or None."""
    lacking = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    return f"Apache Kafka needs {' and '.join(lacking)} on the path (a JVM 17 and Maven)" if lacking else None


def docker_answers() -> bool:
    """Whether a Docker daemon answers here within 5 s."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        return subprocess.run([docker, "info"], capture_output=True, timeout=5).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def libraries() -> Path:
    """The folder with Kafka's jars; fetched by Maven once, into the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "turnfleet" / f"kafka-{VERSION}"
    done = cache / "complete"
    if not done.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={cache}/libs"]
        subprocess.run(command, check=True, timeout=600, cwd=cache)
        done.touch()
    return cache / "libs"


def properties(folder: Path, port: int, controller_port: int) -> str:
    """server.properties of one KRaft process that is broker and controller."""
    return "\n".join(
        (
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.voters=1@127.0.0.1:{controller_port}",
            f"listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{port}",
            "controller.listener.names=CONTROLLER",
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            f"log.dirs={folder}/data",
            "offsets.topic.replication.factor=1",
            "offsets.topic.num.partitions=5",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1",
            "transaction.state.log.num.partitions=2",
            "group.initial.rebalance.delay.ms=0",
            "group.min.session.timeout.ms=1000",
            "",
        )
    )


def _java(*arguments: str) -> list[str]:
    return ["java", *LEAN, "-Xmx512m", "-cp", f"{libraries()}/*", *arguments]


@contextmanager
def jvm_kafka() -> Iterator[Server]:
    """A running Apache Kafka; `kill` and `start` restart it on the same port and data. Ended by pid."""
    with TemporaryDirectory(prefix="turnfleet-kafka-") as name:
        folder, port = Path(name), free_port()
        config = folder / "server.properties"
        config.write_text(properties(folder, port, free_port()))
        tool = "kafka.tools.StorageTool"
        made = subprocess.run(_java(tool, "random-uuid"), check=True, capture_output=True, text=True, timeout=120)
        cluster = made.stdout.split()[-1]
        format_it = _java(tool, "format", "-t", cluster, "-c", str(config))
        subprocess.run(format_it, check=True, capture_output=True, timeout=120)
        server = Server(_java("kafka.Kafka", str(config)), port, folder / "log")
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextmanager
def jvm_cluster(brokers: int) -> Iterator[list[Server]]:
    """So many brokers that are one cluster; each can be killed and started. Ended by pid."""
    with TemporaryDirectory(prefix="turnfleet-kafka-") as name:
        nodes = [Node() for _ in range(brokers)]
        commands = commands_of(Path(name), nodes)
        servers = [
            Server([java, *LEAN, *rest], node.port, Path(name) / f"log-{node.port}")
            for (java, *rest), node in zip(commands, nodes, strict=True)
        ]
        try:
            with ThreadPoolExecutor(brokers) as threads:  # none of them is ready without most of the others
                list(threads.map(Server.start, servers))
            yield servers
        finally:
            for server in servers:
                server.kill()


@contextmanager
def kafka_container() -> Iterator[str]:
    """Apache Kafka in a container; gives its address."""
    from testcontainers.kafka import KafkaContainer

    with KafkaContainer().with_kraft() as container:
        yield container.get_bootstrap_server()


@pytest.fixture(scope="session")
def apache_kafka() -> Iterator[KafkaAddress]:
    """One Apache Kafka for the whole run; tests keep apart by topic prefix and must not kill it."""
    lacking = missing_tools()
    if lacking is None:
        with jvm_kafka() as server:
            yield KafkaAddress(server.address, server)
    elif docker_answers():
        with kafka_container() as address:
            yield KafkaAddress(address)
    elif os.environ.get("CI") == "true":
        pytest.fail(f"{lacking}, or Docker")
    else:
        pytest.skip(f"{lacking}, or Docker")
