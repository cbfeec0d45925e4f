"""Two requests of Kafka's protocol that aiokafka lacks: metadata that tells topic ids, and incremental alter.

Wire shapes only (source: Kafka's `MetadataRequest.json` version 12, `IncrementalAlterConfigsRequest.json` version 0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int8,
    Int16,
    Int32,
    Schema,
    String,
    TaggedFields,
)

METADATA_KEY, METADATA_VERSION = 3, 12
ALTER_KEY = 44
TOPIC_RESOURCE = 2
SET = 0


class _Uuid:
    """16 bytes, as Kafka writes a topic id."""

    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: Any) -> UUID:
        return UUID(bytes=data.read(16))


_NODES = CompactArray(Int32)
_PARTITION = (
    ("error_code", Int16),
    ("partition", Int32),
    ("leader", Int32),
    ("leader_epoch", Int32),
    ("replicas", _NODES),
    ("isr", _NODES),
    ("offline_replicas", _NODES),
    ("tags", TaggedFields),
)
_TOPIC = (
    ("error_code", Int16),
    ("topic", CompactString("utf-8")),
    ("topic_id", _Uuid),
    ("is_internal", Boolean),
    ("partitions", CompactArray(*_PARTITION)),
    ("authorized_operations", Int32),
    ("tags", TaggedFields),
)
_BROKER = (
    ("node_id", Int32),
    ("host", CompactString("utf-8")),
    ("port", Int32),
    ("rack", CompactString("utf-8")),
    ("tags", TaggedFields),
)


class MetadataResponseV12(Response):  # type: ignore[misc]
    """Brokers and topics, with topic ids."""

    API_KEY = METADATA_KEY
    API_VERSION = METADATA_VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(*_BROKER)),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        ("topics", CompactArray(*_TOPIC)),
        ("tags", TaggedFields),
    )


class MetadataRequestV12(RequestStruct):  # type: ignore[misc]
    """The request's shape."""

    FLEXIBLE_VERSION = True
    API_KEY = METADATA_KEY
    API_VERSION = METADATA_VERSION
    RESPONSE_TYPE = MetadataResponseV12
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicIds(Request[MetadataRequestV12]):  # type: ignore[misc]
    """Metadata of these topics; never creates one. NotImplementedError on sending: the broker is older."""

    API_KEY = METADATA_KEY

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[MetadataRequestV12]) -> MetadataRequestV12:
        topics: list[tuple[UUID, str, dict[int, bytes]]] = [(UUID(int=0), name, {}) for name in self._names]
        return request_struct_class(topics, False, False, {})


class AlterResponseV0(Response):  # type: ignore[misc]
    """One error code per resource."""

    API_KEY = ALTER_KEY
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "resources",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
            ),
        ),
    )


class AlterRequestV0(RequestStruct):  # type: ignore[misc]
    """The request's shape."""

    API_KEY = ALTER_KEY
    API_VERSION = 0
    RESPONSE_TYPE = AlterResponseV0
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                ("configs", Array(("name", String("utf-8")), ("operation", Int8), ("value", String("utf-8")))),
            ),
        ),
        ("validate_only", Boolean),
    )


class SetTopicConfig(Request[AlterRequestV0]):  # type: ignore[misc]
    """Set these keys of one topic and leave the others alone (plain AlterConfigs would reset them)."""

    API_KEY = ALTER_KEY

    def __init__(self, name: str, config: Mapping[str, str]) -> None:
        self._resource = (TOPIC_RESOURCE, name, [(key, SET, value) for key, value in config.items()])

    def build(self, request_struct_class: type[AlterRequestV0]) -> AlterRequestV0:
        return request_struct_class([self._resource], False)
