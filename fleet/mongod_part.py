"""The embedded database: a real mongod as a replica set of one member, with a small cache."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from functools import partial
from pathlib import Path

from fleet.data_dir import DataDir
from fleet.part import CannotStart, Part
from fleet.probe import listens
from fleet.replica_set import SET_NAME, make_primary

PREFERRED_PORT = 27117
HOST = "127.0.0.1"
CACHE_GB = 0.25
# Small log files that are not made ahead: 17 MB on disk instead of 300 after the first start.
ENGINE = "log=(file_max=32MB,prealloc=false)"
ADVICE = "run `make install` (extra `local`), or set FLEET_MONGO_URI to a replica set of your own"
HINTS = (
    ("libcurl", "apt-get install libcurl4"),
    ("libcrypto", "apt-get install libssl3 (mongod needs OpenSSL 3)"),
    ("libssl", "apt-get install libssl3 (mongod needs OpenSSL 3)"),
    ("Address already in use", "another program took the port just now; run `fleet up` again"),
    ("incompatible with", "the data was written by another mongod: use that one, or another directory with --data"),
    ("Illegal instruction", "this CPU lacks AVX; set FLEET_MONGO_URI to a replica set of your own"),
    ("No space left", "free some disk space, or choose another directory with --data"),
)


def binary() -> Path:
    """The packaged mongod, else the system's. Raises CannotStart."""
    spec = importlib.util.find_spec("fiftyone")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        program = Path(place) / "db" / "bin" / "mongod"
        if program.is_file():
            return program
    found = shutil.which("mongod")
    if found is None:
        raise CannotStart("the database is not installed: no mongod was found", ADVICE)
    return Path(found)


def version() -> str:
    """What the binary calls itself, "db version v…". Blocks for a moment. Raises CannotStart."""
    said = subprocess.run([str(binary()), "--version"], check=True, capture_output=True, text=True, timeout=20)
    return said.stdout.partition("\n")[0].strip()


def uri(port: int) -> str:
    """How our services reach it: directly, because a set of one member has nothing to discover."""
    return f"mongodb://{HOST}:{port}/?replicaSet={SET_NAME}&directConnection=true"


def mongod_part(data: DataDir, port: int) -> Part:
    """The part; prepared means: it is the primary of its set, also when its port is another than last time."""
    where = ("--dbpath", str(data.folder("mongod")), "--port", str(port), "--bind_ip", HOST, "--nounixsocket")
    size = ("--wiredTigerCacheSizeGB", str(CACHE_GB), "--wiredTigerEngineConfigString", ENGINE, "--oplogSize", "256")
    quiet = ("--quiet", "--setParameter", "diagnosticDataCollectionEnabled=false")
    return Part(
        name="database",
        command=(str(binary()), "--replSet", SET_NAME, *where, *size, *quiet),
        log=data.log("mongod"),
        ready=partial(listens, HOST, port),
        port=port,
        prepare=partial(make_primary, HOST, port),
        hints=HINTS,
        stop_timeout_s=20.0,
    )
