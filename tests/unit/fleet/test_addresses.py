"""Where everything is: the environment wins, then what `fleet up` recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import addresses
from fleet.data_dir import DataDir, Running
from fleet.exits import CommandError, Exit


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    folder = DataDir(tmp_path / "d")
    with folder.locked():
        folder.write(
            Running(
                pid=1,
                started_ms=1,
                gateway="http://127.0.0.1:4711",
                kafka_bootstrap="127.0.0.1:1",
                mongo_uri="mongodb://x",
                model_url="http://m",
                topic_prefix="p.",
                mongo_database="other",
            )
        )
        yield tmp_path / "d"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAFKA_BOOTSTRAP", "MONGO_URI", "GATEWAY_PORT", "GATEWAY_HOST", "TOPIC_PREFIX", "MONGO_DATABASE"):
        monkeypatch.delenv(f"FLEET_{name}", raising=False)


def test_a_second_terminal_finds_what_runs(data: Path) -> None:
    assert addresses.gateway(data) == "http://127.0.0.1:4711"
    assert addresses.kafka(data).kafka_bootstrap == "127.0.0.1:1"
    assert addresses.kafka(data).topic_prefix == "p."
    assert addresses.mongo(data).mongo_uri == "mongodb://x"
    assert addresses.mongo(data).mongo_database == "other"


def test_the_environment_wins(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_KAFKA_BOOTSTRAP", "kafka:9092")
    monkeypatch.setenv("FLEET_MONGO_URI", "mongodb://own")
    monkeypatch.setenv("FLEET_GATEWAY_PORT", "99")
    assert addresses.kafka(data).kafka_bootstrap == "kafka:9092"
    assert addresses.kafka(data).topic_prefix == "", "another cluster has nothing to do with what runs here"
    assert addresses.mongo(data).mongo_uri == "mongodb://own"
    assert addresses.gateway(data) == "http://127.0.0.1:99"


def test_where_nothing_runs_one_sentence_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"`fleet up`, or set FLEET_KAFKA_BOOTSTRAP") as caught:
        addresses.kafka(tmp_path)
    assert caught.value.code == Exit.UNREACHABLE
    assert addresses.gateway(tmp_path) == "http://127.0.0.1:8080"
