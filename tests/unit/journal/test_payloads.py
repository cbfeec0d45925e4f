"""A crash between a payload and its row: what is there is nobody's, and the sweep finds it. In memory."""

from __future__ import annotations

import time

import pytest

from journal.gate import Call
from journal.memory import MemoryStore
from journal.port import PAYLOAD_CHARS, Row, StoreUnavailable, Verdict

LONG = "x" * (PAYLOAD_CHARS + 1)
LATER_MS = time.time_ns() // 1_000_000 + 3_600_000


async def test_garbage_of_a_crash_between_payload_and_row_is_found_by_the_sweep() -> None:
    crashes = True

    async def gate(call: Call) -> None:
        if crashes and call.operation == "payloads.put":
            raise StoreUnavailable("planted")

    store = MemoryStore(gate)
    row = Row("t/s", 1, "step", "n1", 1, body=LONG)
    with pytest.raises(StoreUnavailable):
        await store.journal.insert([row])
    assert (await store.journal.read("t/s", 0), len(store.log.payloads.bodies)) == ([], 1)

    crashes = False
    assert await store.journal.insert([row._replace(nonce="n2")]) == [Verdict.APPLIED]  # the next owner's own
    assert len(store.log.payloads.bodies) == 2
    assert await store.payloads.sweep(LATER_MS, 10) == 1
    assert await store.journal.read("t/s", 0) == [row._replace(nonce="n2")]


async def test_what_was_sent_again_after_a_sweep_is_whole() -> None:
    """The sweep was faster than a writer that had no answer: the row is sent again, and its payload with it."""
    store = MemoryStore()
    row = Row("t/s", 1, "step", "n1", 1, body=LONG)
    store.log.payloads.put([row])
    assert await store.payloads.sweep(LATER_MS, 10) == 1
    assert await store.journal.insert([row]) == [Verdict.APPLIED]
    assert await store.journal.row("t/s", 1) == row
