"""What a run stands on: broker and database (embedded or given), and services started beside them. Services are
processes that are spoken to from outside; nothing of them is imported."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from loadtest import apache_kafka
from loadtest.processes import Child, PartFailed, free_port

Kafka = Literal["embedded", "apache", "none"]


class Stack:
    """A broker, a mongod and what is started on them; everything ends with the `async with`.

    With FLEET_KAFKA_BOOTSTRAP or FLEET_MONGO_URI in `outside` nothing is started in its place; with `kafka="none"`
    neither broker nor mongod is."""

    def __init__(self, outside: Mapping[str, str] = os.environ, *, kafka: Kafka = "embedded") -> None:
        self.bootstrap = outside.get("FLEET_KAFKA_BOOTSTRAP", "")
        self.mongo_uri = outside.get("FLEET_MONGO_URI", "")
        self._kafka = kafka
        self.broker: Child | None = None
        self.mongod: Child | None = None
        self._children: list[Child] = []

    async def __aenter__(self) -> Stack:
        self.folder = Path(tempfile.mkdtemp(prefix="turnfleet-load-"))
        try:
            if self._kafka != "none":
                await self._start_servers()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    def start(self, name: str, *command: str, **env: str) -> Child:
        """Start a Python module of this environment: `start("yardstick", "loadtest", "yardstick", …)`."""
        log = self.folder / f"{name}-{secrets.token_hex(3)}.log"
        child = Child(name, [sys.executable, "-m", *command], env=env, log=log)
        self._children.append(child)
        return child

    async def end(self, child: Child, timeout_s: float = 15.0) -> int:
        """Stop one that `start` returned; its exit code. Safe to call twice."""
        code = await child.stop(timeout_s)
        if child in self._children:
            self._children.remove(child)
        return code

    async def _start_servers(self) -> None:
        if not self.mongo_uri:
            await self._start_mongod()
        if self.bootstrap:
            return
        if self._kafka == "apache":
            await self._start_apache()
        else:
            await self._start_embedded()

    async def _start_apache(self) -> None:
        port = free_port()
        command = await asyncio.to_thread(apache_kafka.command, self.folder, port)
        await self._serve(command, port, timeout_s=60.0)

    async def _start_embedded(self) -> None:
        port = free_port()
        binary = _packaged("noida_db", "noida-db")
        if binary is None:
            raise PartFailed("no Kafka here: set FLEET_KAFKA_BOOTSTRAP, or run `make install` for the embedded broker")
        binary.chmod(0o755)
        command = [str(binary), "start", "--only", "kafka", "--kafka-port", str(port)]
        command += ["--data-dir", str(self.folder / "kafka")]
        await self._serve(command, port, timeout_s=20.0)

    async def _serve(self, command: list[str], port: int, *, timeout_s: float) -> None:
        self.broker = Child("broker", command, env={}, log=self.folder / "broker.log")
        self._children.append(self.broker)
        await self.broker.ready_port(port, timeout_s)
        self.bootstrap = f"127.0.0.1:{port}"

    async def _start_mongod(self) -> None:
        binary = _packaged("fiftyone", "db/bin/mongod")
        if binary is None:
            raise PartFailed("no MongoDB here: set FLEET_MONGO_URI, or run `make install` for the embedded mongod")
        port, data = free_port(), self.folder / "mongo"
        data.mkdir()
        command = [str(binary), "--replSet", "load", "--port", str(port), "--bind_ip", "127.0.0.1"]
        command += ["--dbpath", str(data), "--wiredTigerCacheSizeGB", "1", "--quiet"]
        self.mongod = Child("mongod", command, env={}, log=self.folder / "mongod.log")
        self._children.append(self.mongod)
        await self.mongod.ready_port(port)
        self.mongo_uri = f"mongodb://127.0.0.1:{port}/?replicaSet=load"
        await _initiate(port)

    async def _end(self) -> None:
        for child in reversed(self._children):
            await child.stop()
        self._children.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def _packaged(package: str, program: str) -> Path | None:
    """A program that an installed package brings; its Python wrapper would stand between us and its signals."""
    found = importlib.util.find_spec(package)
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (Path(folder) / program).exists():
            return Path(folder) / program
    return None


async def _writable(client: AsyncMongoClient[dict[str, object]]) -> None:
    hello: dict[str, object] = {}
    while not hello.get("isWritablePrimary"):
        await asyncio.sleep(0.05)
        hello = await client.admin.command("hello")


async def _initiate(port: int) -> None:
    client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient("127.0.0.1", port, directConnection=True)
    members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    await client.admin.command("replSetInitiate", {"_id": "load", "members": members})
                except OperationFailure as known:
                    if known.code != 23:  # AlreadyInitialized
                        raise
                except PyMongoError:
                    await asyncio.sleep(0.05)
                    continue
                break
            await _writable(client)
    finally:
        await client.close()
