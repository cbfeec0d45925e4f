"""The answer to a fetch is what aiokafka reads, without the partitions that brought nothing."""

from __future__ import annotations

from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest, FetchResponse_v10, FetchResponse_v11

from broker.kafka_fetch import FetchResponse, read_fast

V11, V10 = {1: (0, 17)}, {1: (0, 10)}


def part(number: int, *, error: int = 0, records: bytes | None = b"", aborted: Any = None) -> tuple[Any, ...]:
    return (number, error, 1_000 + number, 900 + number, 5, aborted, -1, records)


def decoded(*topics: tuple[str, list[tuple[Any, ...]]]) -> list[tuple[str, list[Any]]]:
    raw = b"head" + FetchResponse_v11(0, 0, 0, list(topics)).encode()
    data = BytesIO(raw)
    data.seek(4)
    return FetchResponse.decode(data).topics


def test_every_field_is_the_one_that_aiokafka_reads() -> None:
    topics = [("a", [part(3, records=b"xyz"), part(4, error=6)]), ("ü", [part(0, records=b"q" * 70_000)])]
    theirs = FetchResponse_v11.decode(BytesIO(FetchResponse_v11(0, 0, 0, topics).encode())).topics
    assert decoded(*topics) == [(name, [(*found[:5], None, *found[6:]) for found in parts]) for name, parts in theirs]


def test_partitions_without_records_and_without_an_error_are_left_out() -> None:
    found = decoded(("a", [part(0), part(1, records=b"r"), part(2, records=None)]), ("b", [part(0)]))
    assert [(name, [entry[0] for entry in parts]) for name, parts in found] == [("a", [1])]


@pytest.mark.parametrize("aborted", [None, [], [(1, 2), (3, 4)]])
def test_aborted_transactions_are_passed_over(aborted: Any) -> None:
    [(_, parts)] = decoded(("a", [part(0, records=b"one", aborted=aborted), part(1, records=b"two")]))
    assert [entry[-1] for entry in parts] == [b"one", b"two"]


async def test_only_fetches_of_version_11_are_read_so() -> None:
    sent: list[Any] = []

    async def send(node_id: int, request: Any, **options: Any) -> None:
        sent.append(request)

    consumer = SimpleNamespace(_client=SimpleNamespace(send=send))
    read_fast(consumer)
    for _ in range(2):
        await consumer._client.send(1, FetchRequest(100, 1, 1, 0, [("t", [(0, 0, 1)])]))
    await consumer._client.send(1, "something else")
    assert sent[0].prepare(V11).RESPONSE_TYPE is FetchResponse
    assert sent[1].prepare(V10).RESPONSE_TYPE is FetchResponse_v10
    assert sent[2] == "something else"
