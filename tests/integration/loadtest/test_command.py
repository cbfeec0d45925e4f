"""The command line as a process: it ends what it started, however it is ended."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from loadtest.processes import Child
from loadtest.waiting import until


async def test_a_run_that_is_terminated_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtest", "run", "throughput", "--kafka", "embedded", "--out", str(tmp_path)]
    child = Child("load", command, env={"TMPDIR": str(tmp_path)}, log=tmp_path / "load.log")
    load = psutil.Process(child.pid)
    try:
        assert await until(lambda: len(load.children(recursive=True)) >= 3, timeout_s=30)
        started = load.children(recursive=True)
    finally:
        code = await child.stop(timeout_s=30)
    assert code == 130
    assert await until(lambda: not any(process.is_running() for process in started), timeout_s=5)
    assert list(tmp_path.glob("turnfleet-load-*")) == []


@pytest.mark.parametrize("arguments", [["run", "nothing"], ["run"], ["dance"], ["yardstick"]])
async def test_a_wrong_command_is_a_usage_error(tmp_path: Path, arguments: list[str]) -> None:
    child = Child("load", [sys.executable, "-m", "loadtest", *arguments], env={}, log=tmp_path / "load.log")
    assert await child.wait(timeout_s=30) == 2
    assert "usage:" in child.log.read_text()
