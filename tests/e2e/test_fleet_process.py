"""What ends the stacks of the tests: everything, politely, whatever one of them does. Stand-ins for the processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import stacks
from tests.e2e.fleet_process import FleetUp


def stand_in(up: FleetUp) -> subprocess.Popen[str]:
    """A process that names the directory in its command line, as `fleet up` does."""
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)", str(up.data)]
    up.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert up.process.stdout is not None
    assert up.process.stdout.readline() == "up\n"
    return up.process


def test_two_stacks_on_one_directory_are_both_asked_to_end(tmp_path: Path) -> None:
    with stacks(tmp_path, "") as make:
        processes = [stand_in(make()) for _ in range(2)]
    assert [process.returncode for process in processes] == [-signal.SIGTERM] * 2
    assert all(process.stdout is not None and process.stdout.closed for process in processes)


def test_a_stack_that_cannot_be_ended_keeps_no_other_from_its_end(tmp_path: Path) -> None:
    def refuse() -> None:
        raise RuntimeError("not now")

    with pytest.raises(RuntimeError, match="not now"), stacks(tmp_path, "") as make:
        first, stubborn, last = [stand_in(make(name)) for name in ("first", "stubborn", "last")]
        stubborn.terminate = refuse  # type: ignore[method-assign]
    assert [first.returncode, last.returncode] == [-signal.SIGTERM] * 2
    assert stubborn.wait(timeout=10) == -signal.SIGKILL, "it was swept"
    assert stubborn.stdout is not None
    assert stubborn.stdout.closed


def test_what_ends_between_the_look_and_the_signal_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    up = FleetUp(tmp_path / "data")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    looks = [[gone.pid], []]
    monkeypatch.setattr(up, "alive", lambda: looks.pop(0))
    up.sweep()
    assert looks == []


def test_what_a_supervisor_left_behind_is_killed_and_gone(tmp_path: Path) -> None:
    up = FleetUp(tmp_path / "data")
    left, up.process = stand_in(up), None
    up.sweep()
    assert up.alive() == []
    assert left.wait(timeout=10) == -signal.SIGKILL
    left.communicate()
