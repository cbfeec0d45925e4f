"""What `fleet new` writes runs with `fleet up --agents`, from its own folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.e2e.fleet_process import FleetUp

Make = Callable[..., FleetUp]


def test_a_new_agent_answers(fresh: Make, tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "fleet", "new", "tea-shop"], cwd=tmp_path, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    up = fresh(workers=1)
    up.agents, up.folder = ("tea_shop:registry",), tmp_path / "tea-shop"
    up.start()

    sent = up.command("send", "s1", "hello", "--agent", "tea-shop", "--wait")

    assert sent.returncode == 0, sent.stderr
    assert sent.stdout.strip()
