"""topics.yaml: what it says, and what it must not say."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from broker.topics import TopicsMismatch
from schemas.settings import SessionSettings
from schemas.topics import load_topics
from workers.__main__ import check_retention

ENTRY = "  - {name: %s, key: session id, schema: turn, partitions: %d%s}\n"


def test_the_shipped_list_is_valid_and_has_every_topic_of_the_contract() -> None:
    topics = load_topics()
    assert topics.names == (
        "agent.turns",
        "agent.control",
        "agent.replies",
        "agent.usage",
        "agent.alerts",
        "agent.dead-letters",
    )
    turns, control = topics.named("agent.turns"), topics.named("agent.control")
    assert turns.partitions == control.partitions
    assert turns.sessions
    assert control.sessions
    assert turns.schema_name == "turn"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ENTRY % ("a", 1, "") + ENTRY % ("a", 1, ""), "listed twice"),
        (ENTRY % ("a", 1, ", co_partitioned_with: b") + ENTRY % ("b", 2, ""), "same number of partitions"),
        (ENTRY % ("a", 1, ", co_partitioned_with: nobody"), "same number of partitions"),
        (ENTRY % ("a", 0, ""), "partitions"),
        (ENTRY % ("'a b'", 1, ""), "name"),
        ("  - {name: a, key: k, schema: turn, partitions: 1, config: {retention.ms: 5}}\n", "retention.ms"),
        ("  - [\n", "parsing"),
    ],
)
def test_a_wrong_list_is_refused_with_its_path_and_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "topics.yaml"
    file.write_text(f"topics:\n{text}")
    with pytest.raises(ValueError, match=reason) as caught:
        load_topics(file)
    assert str(file) in str(caught.value)


def test_another_file_can_be_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("topics:\n" + ENTRY % ("only", 3, ""))
    assert load_topics(file).names == ("only",)


def test_fewer_replicas_lower_min_isr_so_that_one_broker_may_be_missing() -> None:
    turns = load_topics().named("agent.turns")
    assert turns.sized(3).config["min.insync.replicas"] == "2"
    assert turns.sized(2).config["min.insync.replicas"] == "1"
    assert turns.sized(1).config["min.insync.replicas"] == "1"


def test_a_record_that_may_outlive_the_keys_of_its_session_is_refused() -> None:
    kept = load_topics()
    check_retention(kept, 604_800)
    check_retention(kept, SessionSettings.model_fields["session_keep_keys_s"].default)
    with pytest.raises(TopicsMismatch, match=r"agent\.turns keeps records for 604800 s.*KEEP_KEYS_S is 604799"):
        check_retention(kept, 604_799)


@pytest.mark.parametrize(("config", "seconds"), [("-1", math.inf), ("5000", 5.0), ("soon", 0.0), (None, 0.0)])
def test_how_long_a_topic_keeps_records(tmp_path: Path, config: str | None, seconds: float) -> None:
    said = "" if config is None else f', config: {{retention.ms: "{config}"}}'
    file = tmp_path / "topics.yaml"
    file.write_text("topics:\n" + ENTRY % ("a", 1, said))
    assert load_topics(file).named("a").retention_s == seconds
