"""Records are read as aiokafka itself reads them: in parts, from the middle of a batch, over control batches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import Fetcher, FetchError, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from broker.kafka_records import UNREAD_S, KafkaRecord, lean, take_turns

PLACE = TopicPartition("t", 3)
LAST_OFFSET_DELTA, ATTRIBUTES, CRC = slice(23, 27), 22, slice(17, 21)


class Assignment:
    """One partition that is assigned and read up to `position`."""

    active = True
    paused = False

    def __init__(self, position: int) -> None:
        self.position = position

    def state_value(self, _: object) -> Assignment:
        return self

    def consumed_to(self, position: int) -> None:
        self.position = position


def batch(base: int, values: list[bytes], headers: list[tuple[str, bytes | None]] | None = None) -> bytearray:
    """As a broker sends it: the first offset stands in front and is not covered by the checksum."""
    builder = DefaultRecordBatchBuilder(
        2, 0, is_transactional=0, producer_id=1, producer_epoch=0, base_sequence=0, batch_size=1 << 20
    )
    for place, value in enumerate(values):
        builder.append(place, 1_000 + place, b"key", value, headers or [])
    built: bytearray = builder.build()
    built[0:8] = base.to_bytes(8, "big")
    return built


def lean_store() -> Any:
    """Where a consumer made lean keeps what it has fetched."""
    consumer = SimpleNamespace(_fetcher=SimpleNamespace(_records={}))
    lean(consumer)
    return consumer._fetcher._records


def fetched(raw: bytes, offset: int = 0) -> FetchResult:
    """What a consumer made lean holds of a fetch that asked for `offset`."""

    found = PartitionRecords(PLACE, MemoryRecords(raw), [], offset, None, None, True, 0)
    held = lean_store()
    held[PLACE] = FetchResult(PLACE, assignment=Assignment(offset), partition_records=found, backoff=0)
    result: FetchResult = held[PLACE]
    return result


def test_a_record_has_all_that_the_port_promises() -> None:
    raw = bytes(batch(7, [b"v"], [("reply_to", b"2:g")]))
    assert fetched(raw, 7).getall() == [KafkaRecord("t", 3, 7, 1_000, b"key", b"v", [("reply_to", b"2:g")])]


def test_records_are_those_that_aiokafka_reads() -> None:
    raw = bytes(batch(4, [b"%d" % number for number in range(5)]) + batch(9, [b"a", b"b"]))
    theirs = PartitionRecords(PLACE, MemoryRecords(raw), [], 6, None, None, True, 0)
    ours = fetched(raw, 6).getall()
    assert [(record.offset, record.timestamp, record.value) for record in ours] == [
        (record.offset, record.timestamp, record.value) for record in theirs
    ]
    assert [record.offset for record in ours] == [6, 7, 8, 9, 10]


def test_reading_in_parts_goes_on_where_it_stopped() -> None:
    result = fetched(bytes(batch(0, [b"0", b"1", b"2"])))
    assert [record.offset for record in result.getall(max_records=2)] == [0, 1]
    assert result.has_more()
    assert [record.offset for record in result.getall(max_records=2)] == [2]
    assert not result.has_more()


def test_what_was_read_is_not_given_after_the_position_was_moved() -> None:
    result = fetched(bytes(batch(0, [b"0", b"1", b"2"])))
    result.getall(max_records=1)
    result._assignment.position = 0
    assert result.getall() == []


def test_the_next_fetch_begins_after_records_that_were_compacted_away() -> None:
    raw = batch(0, [b"0"])
    raw[LAST_OFFSET_DELTA] = (9).to_bytes(4, "big")
    result = fetched(bytes(sealed(raw)))
    assert len(result.getall()) == 1
    assert result._assignment.position == 10


def test_control_batches_are_skipped() -> None:
    control = batch(0, [b"0"])
    control[ATTRIBUTES] |= 0x20
    result = fetched(bytes(sealed(control) + batch(1, [b"1"])))
    assert [record.offset for record in result.getall()] == [1]


def test_a_damaged_batch_is_an_error_and_not_records() -> None:
    raw = batch(0, [b"0"])
    raw[-2] ^= 1
    with pytest.raises(CorruptRecordException):
        fetched(bytes(raw)).getall()


def test_what_is_not_read_yet_hardly_holds_up_the_fetches_of_other_partitions() -> None:
    """aiokafka asks a broker for nothing meanwhile, for as long as the backoff says that a fetch is made with."""
    consumer = SimpleNamespace(_fetcher=SimpleNamespace(_records={}, _prefetch_backoff=0.1))
    lean(consumer)
    assert consumer._fetcher._prefetch_backoff == UNREAD_S <= 0.01
    assert "_prefetch_backoff" in Fetcher._proc_fetch_request.__code__.co_names


def test_what_is_no_fetch_passes_unchanged() -> None:
    held = lean_store()
    held[PLACE] = error = FetchError(error=CorruptRecordException(), backoff=0)
    assert held[PLACE] is error


def sealed(raw: bytearray) -> bytearray:
    """With a checksum that is right again."""
    raw[CRC] = calc_crc32c(bytes(raw[21:])).to_bytes(4, "big")
    return raw


async def test_a_partition_with_many_records_lets_the_others_have_their_turn() -> None:
    hog, other = TopicPartition("t", 3), TopicPartition("t", 4)
    consumer = SimpleNamespace(_fetcher=SimpleNamespace(_records={}))
    lean(consumer)
    fetcher = consumer._fetcher
    fetcher._subscriptions = SimpleNamespace(reassignment_in_progress=False)
    fetcher._notify, fetcher._wait_consume_future = (lambda _: None), None
    for place, count in ((hog, 9), (other, 1)):
        found = PartitionRecords(place, MemoryRecords(bytes(batch(0, [b"v"] * count))), [], 0, None, None, True, 0)
        fetcher._records[place] = FetchResult(place, assignment=Assignment(0), partition_records=found, backoff=0)
    polls = []
    for _ in range(4):
        batches = await Fetcher.fetched_records(fetcher, None, max_records=3)
        take_turns(consumer, batches)
        polls.append({place: len(records) for place, records in batches.items()})
    assert polls == [{hog: 3}, {other: 1, hog: 2}, {hog: 3}, {hog: 1}]
