"""`fleet drain`: a worker ends in order. Sends the SIGTERM that a supervisor sends; Linux: the process is held by its
pidfd, so that the signal can never hit another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from fleet import addresses
from fleet.data_dir import RunningPart
from fleet.exits import CommandError, Exit
from fleet.probe import answers
from fleet.service_part import reachable
from schemas.settings import WorkerSettings

_WORKER = "worker "
_POLL_S = 0.1
_MORE_S = 30.0  # than the grace period, at most: it is started again and takes its part of the work


def drain(
    data: Path | None,
    worker: str | None,
    *,
    pid: int | None,
    here: bool = False,
    wait: bool,
    timeout_s: float | None,
    as_json: bool,
) -> Exit:
    """0: it drains (`wait`: it is gone; where `fleet up` runs it, started again and ready). Raises CommandError: 1 no
    such worker, 3 not in time."""
    if (worker is not None) + (pid is not None) + here != 1:
        raise CommandError(Exit.USAGE, "name a worker of `fleet up`, or one process with --pid, or --here")
    if here:
        pid = _here(WorkerSettings().worker_name)
    part = _part(data, worker) if worker is not None else None
    title = part.name if part is not None else f"process {pid}"
    number = part.pid if part is not None else pid
    assert number is not None
    began_s = time.monotonic()
    end_s = began_s + (WorkerSettings().worker_grace_s + _MORE_S if timeout_s is None else timeout_s)
    with _held(number, title) as handle:
        _terminate(handle, title)
        state = "gone" if wait and _gone(handle, title, end_s) else "draining"
    if wait and part is not None and _back(data, part, end_s):
        state = "back"
    if as_json:
        took_s = round(time.monotonic() - began_s, 3)
        print(json.dumps({"worker": title, "pid": number, "state": state, "took_s": took_s}))
    else:
        print(f"{title} (process id {number}): {state}")
    return Exit.OK


def _part(data: Path | None, worker: str) -> RunningPart:
    """`worker 1`, `worker-1` or `1`, as `fleet up` recorded it."""
    found = addresses.running(data)
    if found is None:
        raise CommandError(Exit.DIFFERENT, "nothing runs here: `fleet up` has no worker to drain; see also --pid")
    workers = {part.name: part for part in found.parts if part.name.startswith(_WORKER)}
    name = worker.lower().replace("-", " ")
    part = workers.get(name) or workers.get(_WORKER + name)
    if part is None:
        raise CommandError(Exit.DIFFERENT, f"there is no {worker!r} here: {', '.join(workers)}")
    return part


def _here(name: str) -> int:
    """The process of the worker that bears `name`: its own environment says so."""
    if not name:
        raise CommandError(Exit.USAGE, "--here: FLEET_WORKER_NAME is empty; it names the worker of this pod")
    mark = b"FLEET_WORKER_NAME=" + name.encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended, or is another user's
            if _is_worker(int(folder.name)) and mark in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
    raise CommandError(Exit.DIFFERENT, f"no worker {name!r} runs here")


@contextlib.contextmanager
def _held(pid: int, title: str) -> Iterator[int]:
    """A handle of a process that is a worker. What is looked at is what is signalled: the handle came first."""
    try:
        handle = os.pidfd_open(pid)
    except (ProcessLookupError, OSError, OverflowError):
        raise CommandError(Exit.DIFFERENT, f"{title}: there is no process {pid}") from None
    try:
        if not _is_worker(pid):
            raise CommandError(Exit.DIFFERENT, f"process {pid} is no worker (`python -m workers`)")
        yield handle
    finally:
        os.close(handle)


def _is_worker(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return (b"-m", b"workers") in pairwise(words)


def _terminate(handle: int, title: str) -> None:
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
    except ProcessLookupError:
        raise CommandError(Exit.DIFFERENT, f"{title} has just ended") from None
    except PermissionError:
        raise CommandError(Exit.DIFFERENT, f"{title} belongs to another user") from None


def _gone(handle: int, title: str, end_s: float) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    if not poll.poll(max(end_s - time.monotonic(), 0) * 1_000):
        raise CommandError(Exit.UNREACHABLE, f"{title} is still there; it drains")
    return True


def _back(data: Path | None, before: RunningPart, end_s: float) -> bool:
    """Whether `fleet up` has started it again and it is ready; no: `fleet up` ends as well."""
    while (found := addresses.running(data)) is not None:
        for part in found.parts:
            if part.name == before.name and part.pid != before.pid and _ready(part):
                return True
        if time.monotonic() > end_s:
            raise CommandError(Exit.UNREACHABLE, f"{before.name} is gone, and not ready again yet: {before.log}")
        time.sleep(_POLL_S)
    return False


def _ready(part: RunningPart) -> bool:
    host = reachable(WorkerSettings().worker_host)
    return part.port is not None and asyncio.run(answers(host, part.port, "/readyz"))
