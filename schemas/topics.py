"""topics.yaml as a model: the only list of topics. Knows nothing of any cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, model_validator

from schemas.base import Frozen

MIN_ISR = "min.insync.replicas"
RETENTION = "retention.ms"
DEFAULT_FILE = Path(__file__).resolve().parent.parent / "topics.yaml"


class Topic(Frozen):
    """One topic: what its key is, which schema its values have, how it is cut and kept.

    `sessions`: the stream carries sessions, its number of partitions is fixed for its life. `replication_factor` and
    min ISR are wishes for a cluster; `sized` shrinks them to the brokers there are.
    """

    name: str = Field(pattern=r"^[a-zA-Z0-9._-]{1,200}$")
    key: str
    schema_name: str = Field(alias="schema")
    partitions: int = Field(ge=1, le=10_000)
    sessions: bool = False
    co_partitioned_with: str | None = None
    replication_factor: int = Field(default=3, ge=1)
    config: Mapping[str, str] = Field(default_factory=dict)

    @property
    def retention_s(self) -> float:
        """How long a record may come again. 0: the list does not say."""
        kept = self.config.get(RETENTION, "0")
        return math.inf if kept.startswith("-") else int(kept) / 1_000 if kept.isdecimal() else 0.0

    def sized(self, replicas: int) -> Topic:
        """This topic with `replicas` copies; min ISR stays below them so that one broker may be missing."""
        config = dict(self.config)
        if MIN_ISR in config and replicas < self.replication_factor:
            config[MIN_ISR] = str(min(int(config[MIN_ISR]), max(1, replicas - 1)))
        return self.model_copy(update={"replication_factor": replicas, "config": config})


class Topics(Frozen):
    """All topics, in the order of the file."""

    topics: Annotated[tuple[Topic, ...], Field(strict=False)]

    @model_validator(mode="after")
    def _agree(self) -> Topics:
        by_name = {topic.name: topic for topic in self.topics}
        if len(by_name) != len(self.topics):
            raise ValueError("a topic is listed twice")
        for topic in self.topics:
            other = by_name.get(topic.co_partitioned_with or topic.name)
            if other is None or other.partitions != topic.partitions:
                raise ValueError(
                    f"{topic.name} and {topic.co_partitioned_with} must have the same number of partitions"
                )
        return self

    def named(self, name: str) -> Topic:
        """The topic of this name. KeyError: topics.yaml has none."""
        for topic in self.topics:
            if topic.name == name:
                return topic
        raise KeyError(name)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, bare."""
        return tuple(topic.name for topic in self.topics)


def load_topics(path: Path | None = None) -> Topics:
    """Read the list of topics; without a path, the one of this distribution. OSError, ValueError: what is wrong."""
    file = path or DEFAULT_FILE
    try:
        return Topics.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error
