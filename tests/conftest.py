"""The lanes: marks tests by their folder, fast ones first, no skip in CI. Knows no part of the product."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

pytest_plugins = ["tests.support.mongod", "tests.support.stores", "tests.support.noida", "tests.support.kafka_jvm"]
"""Where fixtures lie that more than one test file uses."""

LANES = {"unit": 10, "property": 60, "chart": 600, "contract": 120, "integration": 120, "browser": 60, "e2e": 300}
"""Lane → its time limit for one test, in seconds; in the order in which they run. The first of `chart` builds helm."""


def lane_of(path: Path) -> str | None:
    """The lane whose folder the test lies in, if any."""
    return next((part for part in path.parts if part in LANES), None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = list(LANES)
    for item in items:
        lane = lane_of(item.path.relative_to(Path(__file__).parent))
        if lane is None:
            continue
        item.add_marker(lane)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LANES[lane]))
    items.sort(key=lambda item: order.index(next((lane for lane in order if item.get_closest_marker(lane)), order[-1])))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI (`CI=true`) a skip is a failure: nothing that was asked for may be left out. Docker is the exception."""
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if skipped and os.environ.get("CI") == "true" and item.get_closest_marker("docker") is None:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
