"""What docs/agents.md teaches works: every example runs, with the test that stands under it. Starts no process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.testing import Lab
from tests.support.doc_examples import Page, run_tests

PAGE = Page("agents.md")
WITH_TEST = ("translator", "shop", "panel", "pantry")


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with PAGE.there(tmp_path, monkeypatch) as folder:
        yield folder


def test_every_example_has_a_file_and_a_test() -> None:
    assert PAGE.blocks == len(PAGE.files)
    assert {f"{name}.py" for name in WITH_TEST} | {f"test_{name}.py" for name in WITH_TEST} <= PAGE.files.keys()


@pytest.mark.parametrize("name", WITH_TEST)
def test_an_example_passes_its_test(name: str, there: Path) -> None:
    assert run_tests(name) >= 2


def test_the_agent_that_asks_by_hand_waits_for_an_answer(there: Path) -> None:
    lab = Lab("careful:careful")

    assert lab.turn("pay").outcome == "suspended"
    assert lab.decide(allow=False).text == "not paid, says ada"


def test_the_agent_with_tools_by_hand_survives_its_worker(there: Path) -> None:
    points = Lab("payer:payer").crash_everywhere("Ada")

    texts = {point.outcome.text for point in points}
    assert texts == {
        "5 cents are paid; mail to Ada is sent",
        "5 cents are paid; whether the mail went out nobody knows",
    }
