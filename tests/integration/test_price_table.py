"""A worker does not start with a price table that cannot be used, and says why in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_a_worker_refuses_a_bad_price_table_before_it_joins_anything(tmp_path: Path) -> None:
    table = tmp_path / "prices.yaml"
    table.write_text("currency: USD\nprices:\n  - {model: m, from: 2026-01-01, input: -1, output: 2}\n")
    nobody = {
        "FLEET_PRICES": str(table),
        "FLEET_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "FLEET_MONGO_URI": "mongodb://127.0.0.1:1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "workers"],
        env={**os.environ, **nobody},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"prices {table}: row 1 (m), input: input should be greater than or equal to 0 (-1)"
    )
