"""The embedded broker (noida-db) for tests: a process of its own, a port of its own, data in a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.ports import free_port
from tests.support.process import Server

FLUSHED_S = 1.5
"""It writes topics, records and offsets once a second: what is younger does not survive its `kill -9`."""


@contextmanager
def noida_broker() -> Iterator[Server]:
    """A running embedded broker; `kill` and `start` restart it on the same port and data. Ended by pid."""
    with TemporaryDirectory(prefix="turnfleet-noida-") as folder:
        port = free_port()
        binary = Path(str(files("noida_db"))) / "noida-db"
        if not binary.stat().st_mode & 0o100:
            binary.chmod(0o755)
        command = [str(binary), "start", "--only", "kafka", "--kafka-port", str(port), "--data-dir", f"{folder}/data"]
        server = Server(command, port, Path(folder) / "log")
        try:
            server.start()
            yield server
        finally:
            server.kill()


@pytest.fixture(scope="session")
def noida() -> Iterator[Server]:
    """One embedded broker for the whole run; tests keep apart by topic prefix and must not kill it."""
    with noida_broker() as server:
        yield server
