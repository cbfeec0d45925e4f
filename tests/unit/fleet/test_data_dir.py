"""The data directory: one supervisor at a time, and a second terminal finds what runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet.data_dir import DataDir, DirectoryInUse, Running

RUNNING = Running(
    pid=1, started_ms=1, gateway="http://127.0.0.1:1", kafka_bootstrap="b", mongo_uri="m", model_url="u", parts=()
)


def test_a_second_supervisor_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    held, second = DataDir(tmp_path / "d").locked(), DataDir(tmp_path / "d").locked()
    with held, pytest.raises(DirectoryInUse, match=f"process id {os.getpid()}"), second:
        pass


def test_the_lock_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with DataDir(tmp_path / "d").locked():
            pass


def test_what_runs_is_found_while_the_lock_is_held_and_only_then(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "d")
    assert data.running() is None
    with data.locked():
        data.write(RUNNING)
        assert DataDir(tmp_path / "d").running() == RUNNING
    assert data.running() is None, "left behind by a supervisor that was killed"


def test_a_state_file_that_cannot_be_read_counts_as_none(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "d")
    with data.locked():
        (tmp_path / "d" / "up.json").write_text("{")
        assert data.running() is None


def test_data_is_readable_only_for_its_owner(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "d")
    with data.locked():
        data.write(RUNNING)
    for path in (tmp_path / "d", data.folder("broker"), tmp_path / "d" / "up.json", tmp_path / "d" / "lock"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_log_of_the_run_before_is_kept(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "d")
    data.log("broker").write_text("one")
    fresh = data.log("broker")
    assert not fresh.exists()
    assert fresh.with_suffix(".log.1").read_text() == "one"
