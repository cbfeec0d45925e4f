"""The data directory of `fleet up`: its folders, the lock that one supervisor holds, and `up.json`: what is running."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError


class RunningPart(BaseModel):
    """One part as it runs now."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    port: int | None
    log: str


class Running(BaseModel):
    """What `fleet up` started: addresses for a second terminal. `kafka_bootstrap` and `mongo_uri` as the settings."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started_ms: int
    gateway: str
    kafka_bootstrap: str
    mongo_uri: str
    model_url: str
    topic_prefix: str = ""
    mongo_database: str = "turnfleet"
    parts: tuple[RunningPart, ...] = ()


class DirectoryInUse(Exception):
    """Another `fleet up` holds the directory. The text says which."""


class DataDir:
    """Folders under one path; everything that `fleet up` keeps lies there."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    def folder(self, name: str) -> Path:
        """A folder of that name, made if it is missing, readable only for its owner."""
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def log(self, name: str) -> Path:
        """The log file of a part; that of the run before is kept beside it as `.1`."""
        log = self.folder("logs") / f"{name}.log"
        if log.exists() and log.stat().st_size:
            log.replace(log.with_suffix(".log.1"))
        return log

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory. The kernel gives the lock back when we die, however. Raises DirectoryInUse."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _try_lock(handle, tries=4):
                raise DirectoryInUse(self._holder(handle))
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(handle)

    def running(self) -> Running | None:
        """What runs here now, or None: a file that a killed supervisor left behind does not count."""
        try:
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if _try_lock(handle):
                return None
            return Running.model_validate_json(self._state.read_bytes())
        except (OSError, ValidationError):
            return None
        finally:
            os.close(handle)

    def write(self, running: Running) -> None:
        """Replace `up.json` at once."""
        fresh = self._state.with_suffix(".new")
        fresh.write_text(running.model_dump_json(indent=1) + "\n")
        fresh.chmod(0o600)
        fresh.replace(self._state)

    def forget(self) -> None:
        """Nothing runs here any more."""
        self._state.unlink(missing_ok=True)

    @property
    def _state(self) -> Path:
        return self.path / "up.json"

    def _holder(self, handle: int) -> str:
        pid = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
        return (
            f"{self.path} is in use by `fleet up` with process id {pid}: talk to that one with `fleet chat`, "
            f"stop it (kill {pid}), or choose another directory with --data"
        )


def _try_lock(handle: int, *, tries: int = 1) -> bool:
    for left in reversed(range(tries)):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if left:
                time.sleep(0.05)  # a second terminal that reads `up.json` holds it for some microseconds
        else:
            return True
    return False
