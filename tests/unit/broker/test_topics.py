"""topics.yaml against a cluster: what differs, what is applied, what is refused and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.memory import MemoryAdmin, MemoryCluster
from broker.port import BrokerUnavailable, TopicState
from broker.topics import Kind, TopicsMismatch, apply, check, require_topics
from schemas.topics import Topics

TOPICS = Topics.model_validate(
    {
        "topics": [
            {
                "name": "turns",
                "key": "session id",
                "schema": "turn",
                "partitions": 4,
                "sessions": True,
                "config": {"retention.ms": "1000", "min.insync.replicas": "2"},
            },
            {"name": "usage", "key": "session id", "schema": "receipt", "partitions": 2},
        ]
    }
)


def cluster(brokers: int = 3) -> tuple[MemoryCluster, MemoryAdmin]:
    made = MemoryCluster(brokers=brokers)
    return made, MemoryAdmin(made)


async def test_an_empty_cluster_lacks_everything_and_apply_creates_it() -> None:
    made, admin = cluster()
    assert [(entry.topic, entry.kind) for entry in await check(admin, TOPICS)] == [
        ("turns", Kind.MISSING),
        ("usage", Kind.MISSING),
    ]
    applied = await apply(admin, TOPICS)
    assert [line.split(":")[0] for line in applied.done] == ["turns", "usage"]
    assert applied.refused == ()
    assert await check(admin, TOPICS) == []
    assert made.topics["turns"].config == {"retention.ms": "1000", "min.insync.replicas": "2"}


async def test_apply_twice_does_nothing_the_second_time() -> None:
    _, admin = cluster()
    await apply(admin, TOPICS)
    assert (await apply(admin, TOPICS)).done == ()


@pytest.mark.parametrize(
    ("brokers", "setting", "replicas", "min_isr"), [(1, 0, 1, "1"), (2, 0, 2, "1"), (3, 0, 3, "2"), (5, 1, 1, "1")]
)
async def test_replicas_and_min_isr_shrink_to_the_brokers_and_the_setting(
    brokers: int, setting: int, replicas: int, min_isr: str
) -> None:
    made, admin = cluster(brokers)
    await apply(admin, TOPICS, setting)
    assert made.topics["turns"].replication_factor == replicas
    assert made.topics["turns"].config["min.insync.replicas"] == min_isr
    assert await check(admin, TOPICS, setting) == []


async def test_a_stream_of_sessions_keeps_its_number_of_partitions_and_the_reason_is_given() -> None:
    made, admin = cluster()
    await apply(admin, TOPICS)
    made.topics["turns"] = replace(made.topics["turns"], partitions=3)
    applied = await apply(admin, TOPICS)
    assert made.topics["turns"].partitions == 3
    assert applied.done == ()
    assert [entry.kind for entry in applied.refused] == [Kind.PARTITIONS]
    assert "a session lives on the partition that its id hashes to" in str(applied.refused[0])
    with pytest.raises(TopicsMismatch, match=r"turns: its number of partitions is 3, topics.yaml says 4"):
        await require_topics(admin, TOPICS)


async def test_another_stream_grows_and_never_shrinks() -> None:
    made, admin = cluster()
    await apply(admin, TOPICS)
    made.topics["usage"] = replace(made.topics["usage"], partitions=1)
    assert (await apply(admin, TOPICS)).done == ("usage: grown to 2 partitions",)
    made.topics["usage"] = replace(made.topics["usage"], partitions=9)
    refused = (await apply(admin, TOPICS)).refused
    assert [entry.kind for entry in refused] == [Kind.PARTITIONS]
    assert "cannot take partitions away" in str(refused[0])


async def test_config_that_drifted_is_set_back_and_only_that() -> None:
    made, admin = cluster()
    await apply(admin, TOPICS)
    await admin.alter_config("turns", {"retention.ms": "5", "segment.ms": "7"})
    assert [str(entry) for entry in await check(admin, TOPICS)] == [
        "turns: retention.ms is 5, topics.yaml says 1000; run `fleet topics apply`"
    ]
    assert (await apply(admin, TOPICS)).done == ("turns: retention.ms set to 1000",)
    assert made.topics["turns"].config["segment.ms"] == "7"


async def test_what_the_broker_does_not_report_is_said_and_is_no_drift() -> None:
    made, admin = cluster()
    await apply(admin, TOPICS)
    made.topics["turns"] = replace(made.topics["turns"], config={"retention.ms": "1000"})
    differences = await check(admin, TOPICS)
    assert [(entry.kind, entry.is_drift) for entry in differences] == [(Kind.NOT_REPORTED, False)]
    assert "min.insync.replicas is not reported by the broker" in str(differences[0])
    assert await apply(admin, TOPICS) == await apply(admin, TOPICS)
    await require_topics(admin, TOPICS)


async def test_a_replication_factor_that_differs_is_drift_and_stops_no_service() -> None:
    made, admin = cluster()
    await apply(admin, TOPICS)
    made.topics["turns"] = replace(made.topics["turns"], replication_factor=1)
    assert [entry.kind for entry in (await apply(admin, TOPICS)).refused] == [Kind.REPLICATION]
    await require_topics(admin, TOPICS)


async def test_a_service_refuses_missing_topics_and_says_what_to_do() -> None:
    _, admin = cluster()
    with pytest.raises(TopicsMismatch, match="lacks the topics turns, usage: run `fleet topics apply`"):
        await require_topics(admin, TOPICS)
    await admin.create(TopicState("usage", 2, 3, {}))
    await require_topics(admin, TOPICS, ["usage"])
    with pytest.raises(TopicsMismatch, match="lacks the topic turns"):
        await require_topics(admin, TOPICS)


async def test_a_cluster_that_is_down_is_not_taken_for_an_empty_one() -> None:
    made, admin = cluster()
    made.fail()
    with pytest.raises(BrokerUnavailable):
        await require_topics(admin, TOPICS)
