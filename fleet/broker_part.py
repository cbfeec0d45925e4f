"""The embedded Kafka-protocol broker: noida-db with nothing but Kafka enabled. Not for production: it writes its data
once a second and never expires a silent group member."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from fleet.data_dir import DataDir
from fleet.part import CannotStart, Part
from fleet.probe import listens

PREFERRED_PORT = 19092
HOST = "127.0.0.1"
MISSING = "the broker is not installed: package noida-db is missing"
ADVICE = "run `make install` (extra `local`), or set FLEET_KAFKA_BOOTSTRAP to a Kafka of your own"
HINTS = (
    ("Address already in use", "another program took the port just now; run `fleet up` again"),
    ("GLIBC_", "this system's C library is too old for noida-db; set FLEET_KAFKA_BOOTSTRAP to a Kafka of your own"),
    ("No space left", "free some disk space, or choose another directory with --data"),
)


def binary() -> Path:
    """noida-db's own program; its Python wrapper would stand between us and its signals. Raises CannotStart."""
    spec = importlib.util.find_spec("noida_db")
    if spec is None or spec.origin is None:
        raise CannotStart(MISSING, ADVICE)
    program = Path(spec.origin).with_name("noida-db")
    if not program.is_file():
        raise CannotStart(MISSING, ADVICE)
    if not program.stat().st_mode & 0o100:
        program.chmod(0o755)
    return program


def broker_part(data: DataDir, port: int, *, prepare: Callable[[], Awaitable[None]]) -> Part:
    """The part. `prepare` creates the topics. It gets SIGTERM when we are killed: it then saves the last second."""
    folder = data.folder("broker")
    start = ("start", "--only", "kafka", "--host", HOST, "--kafka-port", str(port), "--data-dir", str(folder))
    return Part(
        name="broker",
        command=(str(binary()), *start),
        log=data.log("broker"),
        ready=partial(listens, HOST, port),
        port=port,
        prepare=prepare,
        hints=HINTS,
        dies_with=signal.SIGTERM,
    )
