"""A pytest plugin that plants one mutant of the table before anything is collected: `--mutant N`, its place there."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.mutants.table import ALL


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutant", type=int, required=True)


def pytest_configure(config: pytest.Config) -> None:
    plant = ALL[config.getoption("--mutant")].plant
    assert plant is not None
    stack = ExitStack()
    stack.enter_context(plant())
    config.add_cleanup(stack.close)
