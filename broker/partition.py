"""Which partition a key lies on: murmur2 as Java's producer has it. Knows nothing of topics or clients."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

_SEED = 0x9747B28C
_M = 0x5BD1E995
_WORD = 0xFFFFFFFF
_LITTLE_WORD = Struct("<I")


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2 of `data`, unsigned (source: `org.apache.kafka.common.utils.Utils.murmur2`)."""
    length = len(data)
    h = (_SEED ^ length) & _WORD
    whole = length & ~3
    for (word,) in _LITTLE_WORD.iter_unpack(data[:whole]):
        k = (word * _M) & _WORD
        h = ((h * _M) ^ ((k ^ (k >> 24)) * _M)) & _WORD
    if whole != length:
        h = ((h ^ int.from_bytes(data[whole:], "little")) * _M) & _WORD
    h = ((h ^ (h >> 13)) * _M) & _WORD
    return h ^ (h >> 15)


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, count: int) -> int:
    """The partition, 0 … `count` − 1, that every murmur2 producer gives this key. Remembers the last 65,536 keys."""
    return (murmur2(key) & 0x7FFFFFFF) % count
