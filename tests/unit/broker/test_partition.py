"""murmur2 gives the partition that Java's producer and aiokafka's give."""

from __future__ import annotations

import random

import pytest
from aiokafka.partitioner import murmur2 as reference

from broker.partition import murmur2, partition_of

# From Kafka's own UtilsTest.testMurmur2, as signed 32-bit integers.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), JAVA.items())
def test_hash_equals_javas_published_vectors(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


def test_hash_equals_aiokafkas_on_keys_of_every_length() -> None:
    chance = random.Random(7)
    for length in range(200):
        key = chance.randbytes(length)
        assert murmur2(key) == reference(key) & 0xFFFFFFFF


def test_partition_lies_within_the_count_and_spreads() -> None:
    hits = [0] * 12
    for number in range(12_000):
        hits[partition_of(f"session-{number}".encode(), 12)] += 1
    assert min(hits) > 800
