"""The executed examples of a page of docs/: each a file, with a test that stands under it. Starts no process."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


class Page:
    """`files`: name to text. `examples`: the modules among them that are no tests."""

    def __init__(self, name: str) -> None:
        text = (DOCS / name).read_text()
        self.files = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, flags=re.S))
        self.blocks = len(re.findall("```python", text))
        self.examples = sorted(name.removesuffix(".py") for name in self.files if not name.startswith("test_"))

    @contextmanager
    def there(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """All files of the page lie in `folder`, from which they can be imported."""
        for name, text in self.files.items():
            (folder / name).write_text(text)
        monkeypatch.syspath_prepend(folder)
        yield folder
        for name in self.files:
            sys.modules.pop(name.removesuffix(".py"), None)


def run_tests(name: str) -> int:
    """Those of `test_<name>.py`. Returns how many."""
    module = importlib.import_module(f"test_{name}")
    tests = [getattr(module, test) for test in dir(module) if test.startswith("test_")]
    for test in tests:
        test()
    return len(tests)
