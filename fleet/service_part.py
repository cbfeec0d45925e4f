"""Our own services as parts: gateway and workers, with the addresses of everything else in their environment."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from fleet.data_dir import DataDir
from fleet.part import Part
from fleet.probe import answers

# What an operator can do about the refusals that our services start with.
HINTS = (
    ("not a replica set", "start mongod with --replSet and initiate it, or unset FLEET_MONGO_URI"),
    ("standalone", "start mongod with --replSet and initiate it, or unset FLEET_MONGO_URI"),
    ("fleet topics apply", "run `fleet topics apply`"),
    ("address already in use", "another program took the port just now; run `fleet up` again"),
)


def reachable(host: str) -> str:
    """An address to connect to for an address to listen on."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def gateway_part(data: DataDir, *, host: str, port: int, environ: Mapping[str, str]) -> Part:
    """`python -m gateway`, ready when it can take turns."""
    return Part(
        name="gateway",
        command=(sys.executable, "-m", "gateway"),
        log=data.log("gateway"),
        ready=partial(answers, reachable(host), port, "/readyz"),
        port=port,
        environ={**environ, "FLEET_GATEWAY_HOST": host, "FLEET_GATEWAY_PORT": str(port)},
        hints=HINTS,
        stop_timeout_s=15.0,
    )


def worker_part(
    data: DataDir,
    number: int,
    *,
    host: str,
    port: int,
    environ: Mapping[str, str],
    grace_s: float,
    bereaved: Callable[[], Awaitable[None]],
) -> Part:
    """`python -m workers`, ready when it owns its partitions. It drains for `grace_s` at most.

    `bereaved`: tells the group that a member died, where the broker does not notice.
    """
    return Part(
        name=f"worker {number}",
        command=(sys.executable, "-m", "workers"),
        log=data.log(f"worker-{number}"),
        ready=partial(answers, reachable(host), port, "/readyz"),
        port=port,
        environ={**environ, "FLEET_WORKER_HOST": host, "FLEET_WORKER_PORT": str(port)},
        hints=HINTS,
        stop_timeout_s=grace_s + 5.0,
        bereaved=bereaved,
    )
