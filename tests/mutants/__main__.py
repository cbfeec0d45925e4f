"""`python -m tests.mutants`: each mutant of the table against its test. Exit status: 0 all caught, 1 some were not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.mutants.table import ALL, Mutant

FAILED = 1
"""Exit status of pytest where tests ran and some failed; anything else is no proof."""


class Passed:
    """Which tests passed, by node id."""

    def __init__(self) -> None:
        self.tests: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.tests.add(report.nodeid)


def main() -> int:
    """See the module."""
    passed = Passed()
    own = [mutant.test for mutant in ALL if mutant.plant is None]
    pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", *own], plugins=[passed])
    caught = [
        mutant.test in passed.tests if mutant.plant is None else _fails(number, mutant)
        for number, mutant in enumerate(ALL)
    ]
    print(table(ALL, caught))
    return 0 if all(caught) else 1


def _fails(number: int, mutant: Mutant) -> bool:
    """Whether the test is red with its mutant."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "tests.mutants.plugin", "--mutant", str(number)]
    return subprocess.run([*command, mutant.test], capture_output=True, check=False).returncode == FAILED


def table(mutants: Sequence[Mutant], caught: Sequence[bool]) -> str:
    """Promise × mutant × caught by."""
    rows = ["| promise | mutant | caught by |", "| --- | --- | --- |"]
    for mutant, found in zip(mutants, caught, strict=True):
        rows.append(f"| {mutant.promise} | {mutant.name} | {mutant.test if found else 'NOT CAUGHT'} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
