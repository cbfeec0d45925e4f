"""What docs/frameworks.md teaches works: every example runs, with the test that stands under it. Starts no process."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DOC = (Path(__file__).resolve().parents[2] / "docs" / "frameworks.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", DOC, flags=re.S))
EXAMPLES = sorted(name.removesuffix(".py") for name in FILES if not name.startswith("test_"))


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with all files of the page, from which they can be imported."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_every_example_has_a_file_and_a_test() -> None:
    assert len(re.findall("```python", DOC)) == len(FILES) >= 4
    assert {f"test_{name}.py" for name in EXAMPLES} <= FILES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_passes_its_test(name: str, there: Path) -> None:
    module = importlib.import_module(f"test_{name}")
    tests = [getattr(module, test) for test in dir(module) if test.startswith("test_")]

    for test in tests:
        test()
    assert len(tests) >= 2
