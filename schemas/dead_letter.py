"""Dead letters: original bytes as the value, the reason in headers. Nothing of how they are published."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.base import Frozen
from schemas.codes import Code
from schemas.ids import letter_id

FAULTS = frozenset(
    {
        Code.POISON,
        Code.AGENT_ERROR,
        Code.TOOL_ERROR,
        Code.MODEL_ERROR,
        Code.MODEL_RATE_LIMITED,
        Code.OUTCOME_UNKNOWN,
        Code.DEADLINE_EXCEEDED,
    }
)
"""Codes of letters about turns that ran and failed; a record that was refused has another one."""


class DeadLetter(Frozen):
    """The `dl_…` headers of one dead letter; topic, partition, offset and timestamp are those of the original record.

    Letters about the same record are copies of one letter.
    """

    code: Code
    reason: str
    topic: str
    partition: int
    offset: int
    attempts: int = 0
    timestamp_ms: int = 0

    @property
    def id(self) -> str:
        """`<topic>/<partition>@<offset>-<timestamp>` of the original record."""
        return letter_id(self.topic, self.partition, self.offset, self.timestamp_ms)

    def headers(self) -> list[tuple[str, bytes]]:
        """The headers to publish, before every original header."""
        return [
            ("dl_code", self.code.value.encode()),
            ("dl_reason", self.reason.encode("utf-8", "replace")[:1_024]),
            ("dl_topic", self.topic.encode()),
            ("dl_partition", str(self.partition).encode()),
            ("dl_offset", str(self.offset).encode()),
            ("dl_attempts", str(self.attempts).encode()),
            ("dl_timestamp_ms", str(self.timestamp_ms).encode()),
        ]

    @classmethod
    def from_headers(cls, headers: Mapping[str, bytes]) -> DeadLetter:
        """Read them back. Raises KeyError or ValueError where they are none of ours."""
        return cls(
            code=Code(headers["dl_code"].decode()),
            reason=headers["dl_reason"].decode("utf-8", "replace"),
            topic=headers["dl_topic"].decode(),
            partition=int(headers["dl_partition"]),
            offset=int(headers["dl_offset"]),
            attempts=int(headers["dl_attempts"]),
            timestamp_ms=int(headers.get("dl_timestamp_ms", b"0")),
        )
