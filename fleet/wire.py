"""A command's line to Kafka: publish one record, read the replies of one session. Composes the broker's adapters."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from broker.kafka_publisher import KafkaPublisher
from broker.kafka_tail import KafkaTail
from broker.partition import partition_of
from broker.port import BrokerUnavailable, Outgoing, Position, PublishError, PublishUnknown
from fleet.exits import CommandError, Exit
from schemas.settings import KafkaSettings

REPLIES = "agent.replies"


class Wire:
    """Connected once; use it through `connected`. Its errors are CommandError(UNREACHABLE) with what to do."""

    def __init__(self, publisher: KafkaPublisher, tail: KafkaTail, session: str) -> None:
        self._publisher = publisher
        self._tail = tail
        self._key = session.encode()

    @property
    def reply_partition(self) -> int:
        """Where the session's frames go that nobody asked elsewhere."""
        return partition_of(self._key, self._publisher.partition_count(REPLIES))

    async def listen(self) -> None:
        """Every frame that is published after this is seen by `frames`."""
        await self._tail.start(REPLIES, self.reply_partition)

    async def publish(self, topic: str, value: bytes, headers: Sequence[tuple[str, bytes]]) -> Position:
        """One record, acknowledged by the broker."""
        try:
            return await self._publisher.send(Outgoing(topic, self._key, value, headers=headers))
        except PublishError as error:
            raise CommandError(Exit.UNREACHABLE, f"not published: {error}") from None
        except PublishUnknown as error:
            text = f"nobody knows whether it was published ({error}): send it again with the same --turn"
            raise CommandError(Exit.UNREACHABLE, text) from None

    async def frames(self) -> AsyncIterator[dict[str, Any]]:
        """The session's frames as they come, without end."""
        while True:
            for record in await self._tail.batch():
                if record.key == self._key and record.value is not None:
                    frame = json.loads(record.value)
                    if isinstance(frame, dict) and "type" in frame:
                        yield frame


@contextlib.asynccontextmanager
async def connected(settings: KafkaSettings, session: str, *, topic: str) -> AsyncIterator[Wire]:
    """A line for records on `topic` and replies of `session`."""
    publisher = KafkaPublisher(settings, (topic, REPLIES))
    tail = KafkaTail(settings)
    try:
        await publisher.start()
        yield Wire(publisher, tail, session)
    except BrokerUnavailable as error:
        raise CommandError(Exit.UNREACHABLE, str(error)) from None
    finally:
        await asyncio.gather(tail.stop(), publisher.stop())


@contextlib.asynccontextmanager
async def within(timeout_s: float, what: str) -> AsyncIterator[None]:
    """A bound on waiting for frames; its end is CommandError(UNREACHABLE)."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise CommandError(Exit.UNREACHABLE, f"{what} within {timeout_s:g} s") from None
