"""`fleet drain` against stand-ins for workers: who is signalled, what is refused. Real processes, no network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.data_dir import DataDir, Running, RunningPart
from fleet.drain import drain
from fleet.exits import CommandError, Exit

OBEYS = "import signal, sys; signal.signal(15, lambda *_: sys.exit(0)); print(flush=True); signal.pause()"
WAITS = "import signal; signal.signal(15, lambda *_: None); print(flush=True)\nwhile True: signal.pause()"


@contextmanager
def process(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process with these words on its command line; it has its signal handler."""
    started = subprocess.Popen(
        [sys.executable, "-S", "-c", code, *arguments], stdout=subprocess.PIPE, text=True, process_group=0
    )
    try:
        assert started.stdout is not None
        started.stdout.readline()
        yield started
    finally:
        started.kill()
        started.communicate()


@contextmanager
def fleet_up(data: Path, pid: int) -> Iterator[None]:
    """What `fleet up` leaves in its directory while it runs, with one worker."""
    folder = DataDir(data)
    with folder.locked():
        part = RunningPart(name="worker 1", pid=pid, port=None, log="worker-1.log")
        broker = RunningPart(name="broker", pid=os.getpid(), port=None, log="broker.log")
        folder.write(
            Running(
                pid=1, started_ms=0, gateway="", kafka_bootstrap="", mongo_uri="", model_url="", parts=(broker, part)
            )
        )
        yield


@contextmanager
def named(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """A pod: what is started and what is asked bears this name."""
    with monkeypatch.context() as patch:
        patch.setenv("FLEET_WORKER_NAME", name)
        yield


def run(data: Path, worker: str | None = None, *, pid: int | None = None, wait: bool = False) -> Exit:
    return drain(data, worker, pid=pid, wait=wait, timeout_s=0.2 if wait else None, as_json=True)


def refused(data: Path, worker: str | None = None, *, pid: int | None = None, wait: bool = False) -> tuple[Exit, str]:
    with pytest.raises(CommandError) as error:
        run(data, worker, pid=pid, wait=wait)
    return error.value.code, error.value.text


@pytest.mark.parametrize("name", ["worker 1", "worker-1", "1"])
def test_a_worker_of_fleet_up_is_told_to_end(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with process(OBEYS, "-m", "workers") as worker, fleet_up(tmp_path, worker.pid):
        assert run(tmp_path, name) == Exit.OK
        assert worker.wait(5) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["worker"], said["pid"], said["state"]) == ("worker 1", worker.pid, "draining")


def test_a_worker_by_its_process_and_until_it_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with process(OBEYS, "-m", "workers") as worker:
        assert run(tmp_path, pid=worker.pid, wait=True) == Exit.OK
        assert worker.wait(0) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "gone"


def test_one_that_is_still_there_in_the_end_has_exit_code_3(tmp_path: Path) -> None:
    with process(WAITS, "-m", "workers") as worker:
        assert refused(tmp_path, pid=worker.pid, wait=True) == (
            Exit.UNREACHABLE,
            f"process {worker.pid} is still there; it drains",
        )


def test_a_worker_that_is_gone_and_not_back_yet_has_exit_code_3(tmp_path: Path) -> None:
    with process(OBEYS, "-m", "workers") as worker, fleet_up(tmp_path, worker.pid):
        code, text = refused(tmp_path, "1", wait=True)
    assert (code, text) == (Exit.UNREACHABLE, "worker 1 is gone, and not ready again yet: worker-1.log")


def test_unknown_workers_are_refused_by_name(tmp_path: Path) -> None:
    assert refused(tmp_path, "1")[0] == Exit.DIFFERENT
    with process(OBEYS, "-m", "workers") as worker, fleet_up(tmp_path, worker.pid):
        assert refused(tmp_path, "worker 7") == (Exit.DIFFERENT, "there is no 'worker 7' here: worker 1")
        assert refused(tmp_path, "broker")[0] == Exit.DIFFERENT
        assert worker.poll() is None


def test_no_other_process_is_ever_signalled(tmp_path: Path) -> None:
    with process(OBEYS, "workers") as other, fleet_up(tmp_path, other.pid):
        sentence = f"process {other.pid} is no worker (`python -m workers`)"
        assert refused(tmp_path, pid=other.pid) == (Exit.DIFFERENT, sentence)
        assert refused(tmp_path, "1") == (Exit.DIFFERENT, sentence)
        assert other.poll() is None
    assert refused(tmp_path, pid=other.pid) == (
        Exit.DIFFERENT,
        f"process {other.pid}: there is no process {other.pid}",
    )


def test_the_worker_of_this_pod_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, longer = f"pod-{os.getpid()}", f"pod-{os.getpid()}-2"
    with named(monkeypatch, longer), process(OBEYS, "-m", "workers") as neighbour, named(monkeypatch, mine):
        with process(OBEYS, "-m", "workers.child"), process(OBEYS, "-m", "workers") as worker:
            assert drain(tmp_path, None, pid=None, here=True, wait=True, timeout_s=5, as_json=True) == Exit.OK
            assert (worker.wait(0), neighbour.poll()) == (0, None)
        with pytest.raises(CommandError, match=f"no worker '{mine}' runs here") as error:
            drain(tmp_path, None, pid=None, here=True, wait=False, timeout_s=None, as_json=True)
        assert error.value.code == Exit.DIFFERENT
    said = json.loads(capsys.readouterr().out)
    assert (said["pid"], said["state"]) == (worker.pid, "gone")


def test_here_without_a_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLEET_WORKER_NAME", raising=False)
    with pytest.raises(CommandError, match="FLEET_WORKER_NAME is empty") as error:
        drain(tmp_path, None, pid=None, here=True, wait=False, timeout_s=None, as_json=True)
    assert error.value.code == Exit.USAGE


def test_one_or_the_other_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path)[0] == Exit.USAGE
    assert refused(tmp_path, "1", pid=1)[0] == Exit.USAGE
    with pytest.raises(CommandError, match="--here"):
        drain(tmp_path, "1", pid=None, here=True, wait=False, timeout_s=None, as_json=True)


def test_the_signal_is_the_one_that_a_supervisor_sends(tmp_path: Path) -> None:
    with process("import signal; print(flush=True); signal.pause()", "-m", "workers") as worker:
        run(tmp_path, pid=worker.pid)
        assert worker.wait(5) == -signal.SIGTERM
