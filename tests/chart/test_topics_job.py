"""The commands of the job before an installation, as the chart renders them, on Apache Kafka."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

from tests.chart.conftest import Chart
from tests.support.kafka_jvm import KafkaAddress


def test_what_was_applied_passes_the_check_and_what_was_not_does_not(
    chart: Chart, apache_kafka: KafkaAddress, tmp_path: Path
) -> None:
    prefix = f"t{uuid.uuid4().hex[:10]}."
    rendered = chart.render({"settings": {"FLEET_KAFKA_BOOTSTRAP": apache_kafka.address, "FLEET_TOPIC_PREFIX": prefix}})
    apply, check = rendered.pod("topics")["initContainers"][0], rendered.container("topics")
    given = {one["name"]: one["value"] for one in check["env"]}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    empty = tmp_path / "empty"
    empty.mkdir()

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        env = {**kept, **given, "PATH": path}
        return subprocess.run(command, env=env, cwd=empty, check=False, capture_output=True, text=True)

    for command, code in ((check["command"], 1), (apply["command"], 0), (check["command"], 0), (apply["command"], 0)):
        done = run(command)
        assert done.returncode == code, done.stdout + done.stderr
    assert list(empty.iterdir()) == [], "the root file system is read-only"
