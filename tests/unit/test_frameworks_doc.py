"""What docs/frameworks.md teaches works: every example runs, with the test that stands under it. Starts no process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.doc_examples import Page, run_tests

PAGE = Page("frameworks.md")


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with PAGE.there(tmp_path, monkeypatch) as folder:
        yield folder


def test_every_example_has_a_file_and_a_test() -> None:
    assert PAGE.blocks == len(PAGE.files) >= 4
    assert {f"test_{name}.py" for name in PAGE.examples} <= PAGE.files.keys()


@pytest.mark.parametrize("name", PAGE.examples)
def test_an_example_passes_its_test(name: str, there: Path) -> None:
    assert run_tests(name) >= 2
