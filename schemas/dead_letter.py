"""Dead letters: original bytes as the value, the reason in headers. Nothing of how they are published."""

from __future__ import annotations

from schemas.base import Frozen
from schemas.codes import Code


class DeadLetter(Frozen):
    """The `dl_…` headers of one dead letter; topic, partition and offset are where the original lies."""

    code: Code
    reason: str
    topic: str
    partition: int
    offset: int
    attempts: int = 0

    def headers(self) -> list[tuple[str, bytes]]:
        """The headers to publish, before every original header."""
        return [
            ("dl_code", self.code.value.encode()),
            ("dl_reason", self.reason.encode("utf-8", "replace")[:1_024]),
            ("dl_topic", self.topic.encode()),
            ("dl_partition", str(self.partition).encode()),
            ("dl_offset", str(self.offset).encode()),
            ("dl_attempts", str(self.attempts).encode()),
        ]

    @classmethod
    def from_headers(cls, headers: dict[str, bytes]) -> DeadLetter:
        """Read them back. Raises KeyError or ValueError where they are none of ours."""
        return cls(
            code=Code(headers["dl_code"].decode()),
            reason=headers["dl_reason"].decode("utf-8", "replace"),
            topic=headers["dl_topic"].decode(),
            partition=int(headers["dl_partition"]),
            offset=int(headers["dl_offset"]),
            attempts=int(headers["dl_attempts"]),
        )
