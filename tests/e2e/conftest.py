"""The real processes as `fleet up` starts them, for the end-to-end tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.fleet_process import FleetUp, bare_environment


@pytest.fixture(scope="session")
def scripted_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scripted OpenAI-compatible server: FLEET_MODEL_URL."""
    log = tmp_path_factory.mktemp("model") / "model.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "loadtest", "model", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=bare_environment(),
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready "), log.read_text()
        yield line.removeprefix("ready ").strip()
    finally:
        process.kill()
        process.communicate()


@contextmanager
def stacks(folder: Path, model: str) -> Iterator[Callable[..., FleetUp]]:
    """Makes stacks under `folder`, and ends them afterwards, the newest first. Only then it kills what they left: two
    may share a directory, and one that cannot be ended keeps no other from it."""
    with ExitStack() as sweeping, ExitStack() as ending:

        def make(name: str = "data", *, workers: int = 2, **settings: str) -> FleetUp:
            up = FleetUp(folder / name, {"agent": "echo", "model_url": model, **settings}, workers=workers)
            sweeping.callback(up.sweep)
            ending.callback(up.end)
            return up

        yield make


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, scripted_model: str) -> Iterator[FleetUp]:
    """One stack for the tests that leave it as it is: two workers, agent `echo`, the scripted model."""
    with stacks(tmp_path_factory.mktemp("stack"), scripted_model) as make:
        yield make().start()


@pytest.fixture
def fresh(tmp_path: Path, scripted_model: str) -> Iterator[Callable[..., FleetUp]]:
    """Makes stacks that a test may break; each is ended afterwards."""
    with stacks(tmp_path, scripted_model) as make:
        yield make
