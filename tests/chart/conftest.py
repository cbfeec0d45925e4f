"""The chart as helm renders it. helm is built once, by `.ci/helm`; without Go these tests are skipped, in CI never."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
Manifest = dict[str, Any]


class Rendered(list[Manifest]):
    """What one installation consists of."""

    def one(self, kind: str, name: str = "") -> Manifest:
        """The only one of this kind whose name ends so."""
        (found,) = (one for one in self if one["kind"] == kind and one["metadata"]["name"].endswith(name))
        return found

    def kinds(self) -> set[str]:
        return {one["kind"] for one in self}

    def pod(self, part: str) -> Manifest:
        """What a pod of this part is made from."""
        spec: Manifest = self.one("Job" if part == "topics" else "Deployment", f"-{part}")["spec"]["template"]["spec"]
        return spec

    def container(self, part: str) -> Manifest:
        (container,) = self.pod(part)["containers"]
        return dict(container)


class Chart:
    """helm/, or a copy of it, with values."""

    def __init__(self, helm: str, folder: Path, root: Path = ROOT / "helm") -> None:
        self._helm = helm
        self._folder = folder
        self._root = root

    def notes(self) -> str:
        """What helm says after an installation (it says it to a cluster only, so: as a file of the chart)."""
        copy = Path(shutil.copytree(self._root, self._folder / "chart"))
        (copy / "templates" / "NOTES.txt").rename(copy / "said.txt")
        object_of_it = '{kind: Notes, metadata: {name: said}, text: {{ tpl (.Files.Get "said.txt") . | quote }}}'
        (copy / "templates" / "said.yaml").write_text(object_of_it)
        return str(Chart(self._helm, self._folder, copy).render().one("Notes")["text"])

    def run(self, command: str, *arguments: str, values: Mapping[str, Any] | None = None) -> tuple[int, str]:
        """(exit code, output and errors)"""
        file = self._folder / "values.yaml"
        file.write_text(yaml.safe_dump(dict(values or {})))
        words = [self._helm, command, *arguments, str(self._root), "--values", str(file)]
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def render(self, values: Mapping[str, Any] | None = None, *, release: str = "r") -> Rendered:
        code, text = self.run("template", release, values=values)
        assert code == 0, text
        return Rendered(one for one in yaml.safe_load_all(text) if one)

    def refused(self, values: Mapping[str, Any]) -> str:
        """What helm says instead of rendering."""
        code, text = self.run("template", "r", values=values)
        assert code != 0, values
        return text


@pytest.fixture(scope="session")
def helm() -> str:
    built = subprocess.run([ROOT / ".ci" / "helm"], check=False, capture_output=True, text=True)
    if built.returncode == 3:
        pytest.skip(built.stderr.strip().splitlines()[-1])
    assert built.returncode == 0, built.stderr[-2_000:]
    return built.stdout.strip()


@pytest.fixture
def chart(helm: str, tmp_path: Path) -> Chart:
    return Chart(helm, tmp_path)


@pytest.fixture(scope="session")
def full() -> dict[str, Any]:
    """Every optional part, every kind of value."""
    values: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "full-values.yaml").read_text())
    return values
