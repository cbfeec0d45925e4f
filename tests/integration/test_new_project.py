"""What `fleet new` writes works as it lies there: its test passes in a process of its own, its registry loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("kind", ["chat", "tools", "workflow"])
def test_a_new_project_passes_its_test_and_its_registry_loads(kind: str, tmp_path: Path) -> None:
    fleet = str(Path(sys.executable).parent / "fleet")
    made = subprocess.run([fleet, "new", "tea-shop", "--kind", kind], cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "tea-shop"

    tested = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=folder, capture_output=True, text=True)
    environ = {"FLEET_AGENTS": "tea_shop:registry", "PATH": ""}
    listed = subprocess.run([fleet, "agents", "--json"], cwd=folder, env=environ, capture_output=True, text=True)

    assert (tested.returncode, "passed" in tested.stdout) == (0, True), tested.stdout
    assert "tea-shop" in [row["name"] for row in json.loads(listed.stdout)], listed.stderr
