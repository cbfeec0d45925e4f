"""Records as aiokafka's C parser reads them, without the object of eleven fields that aiokafka builds around each.

That object is half of what reading a record costs (1.9 µs of CPU with it, 0.9 without). aiokafka has no public place to
leave it out. Knows nothing of what is in the records.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import CorruptRecordException

from schemas.codec import Headers

UNREAD_S = 0.01
"""As long as a partition has records that were fetched and not read, aiokafka asks its broker for no other partition's,
0.1 s at most: so long did everybody wait behind one session's thousands. From now on 10 ms."""


class KafkaRecord(NamedTuple):
    """One record as it was read, in the shape of the port's Record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def lean(consumer: Any) -> None:
    """From now on this `AIOKafkaConsumer` reads KafkaRecords. Call it after `start`, before anything is assigned.

    Not for `isolation_level="read_committed"`: records of aborted transactions are not left out.
    """
    consumer._fetcher._records = _Fetched()
    consumer._fetcher._prefetch_backoff = UNREAD_S


def take_turns(consumer: Any, polled: Iterable[Any]) -> None:
    """Partitions that were polled and have more come after all others at the next poll of a lean consumer. aiokafka
    would go on with the first until it has nothing left: ten thousand records of one session before anybody else's."""
    records = consumer._fetcher._records
    for place in polled:
        if place in records:
            records.move_to_end(place)


class _Fetched(OrderedDict[Any, Any]):
    """Where aiokafka puts what it has fetched of a partition, unread as yet, until it is asked for it."""

    def __setitem__(self, tp: Any, result: Any) -> None:
        if type(result) is FetchResult:
            result._partition_records = _Unread(result._partition_records)
        super().__setitem__(tp, result)


class _Unread:
    """In place of aiokafka's `PartitionRecords`: may be read in parts, and says where the next fetch begins."""

    __slots__ = ("_records", "next_fetch_offset")

    def __init__(self, found: Any) -> None:
        self.next_fetch_offset: int = found.next_fetch_offset
        self._records = self._read(found._tp, found._records)

    def __iter__(self) -> Iterator[KafkaRecord]:
        return self._records

    def _read(self, tp: Any, batches: Any) -> Iterator[KafkaRecord]:
        """As aiokafka does: control batches are skipped, and so is what lies before the offset that was asked for (a
        fetch begins with the whole batch); a batch's own end counts, because its last records may be compacted away."""
        topic, partition = tp
        make = tuple.__new__
        while batches.has_next():
            batch = batches.next_batch()
            if not batch.validate_crc():
                raise CorruptRecordException(f"Invalid CRC - {tp}")
            for record in () if batch.is_control_batch else batch:
                offset = record.offset
                if offset >= self.next_fetch_offset:
                    self.next_fetch_offset = offset + 1
                    stamp, key, value, headers = record.timestamp, record.key, record.value, record.headers
                    yield make(KafkaRecord, (topic, partition, offset, stamp, key, value, headers))
            self.next_fetch_offset = batch.next_offset
