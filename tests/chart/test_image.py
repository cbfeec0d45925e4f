"""The Dockerfile, as far as it can be known without Docker: what it copies is there and is enough, how it installs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from tests.chart.conftest import ROOT

FILE = (ROOT / "Dockerfile").read_text()
COPIED = [line.split()[1] for line in FILE.splitlines() if line.startswith("COPY ") and "--from" not in line]


def test_every_part_is_copied_and_nothing_that_is_kept_from_the_build() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    let_in = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    assert set(COPIED) == {*wheel["packages"], *wheel["force-include"], "requirements.lock"} == let_in
    assert all((ROOT / name).exists() for name in COPIED)


def test_it_installs_as_make_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    ours = re.search(r"^LOCKED = \$\(PIP\) (.*)$", makefile, re.M)
    pip = re.search(r"^PIP = \.venv/bin/python (-m pip .*?) install (.*)$", makefile, re.M)
    assert ours is not None
    assert pip is not None
    (line,) = re.findall(r"^RUN /opt/venv/bin/python (-m pip .*)$", FILE, re.M)
    assert line == f"{pip[1]} --no-cache-dir install {pip[2]} {ours[1]} requirements.lock"


def test_it_runs_as_the_user_of_the_chart() -> None:
    (user,) = re.findall(r"^USER (\S+)$", FILE, re.M)
    helpers = (ROOT / "helm" / "templates" / "_helpers.tpl").read_text()
    uid, gid = (re.findall(rf"^  {name}: (\d+)$", helpers, re.M)[0] for name in ("runAsUser", "runAsGroup"))
    assert user == f"{uid}:{gid}"
    assert uid != "0"


def test_the_image_has_the_version_of_the_chart() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert yaml.safe_load((ROOT / "helm" / "Chart.yaml").read_text())["appVersion"] == project["version"]
    assert f"python:{sys.version_info.major}." in FILE


def test_what_is_copied_is_enough(tmp_path: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    look = "import fleet.__main__, gateway.__main__, workers.__main__; from schemas import topics; "
    env = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", look + "topics.load_topics(); print(topics.DEFAULT_FILE)"],
        env={**env, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "topics.yaml")
