"""Whose session it is: read once, known from then on, and never somebody else's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.access import Access
from gateway.identity import Principal
from gateway.lookup import Lookup
from gateway.metrics import Metrics
from gateway.ring import Ring
from gateway.router import Router
from journal.loader import load
from journal.memory import MemoryStore
from journal.port import Row
from schemas.codes import Code
from schemas.errors import Refusal
from tests.support.entries import USER, Session

OWNER, STRANGER = Principal("t", USER), Principal("t", "stranger")


class Reads:
    """A store that counts what it is asked."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.asked: list[str] = []
        self._count(self.store.journal, "read")
        self._count(self.store.snapshots, "load")
        lookup = Lookup(self.store)
        router = Router(Ring(max_turns=10, max_bytes=10_000), Metrics(CollectorRegistry()))
        self.lookup, self.access = lookup, Access(lookup, router)

    async def write(self, rows: Sequence[Row]) -> None:
        await self.store.journal.insert(rows)
        self.asked.clear()

    def _count(self, part: Any, name: str) -> None:
        plain = getattr(part, name)

        async def counted(*given: Any) -> Any:
            self.asked.append(name)
            return await plain(*given)

        setattr(part, name, counted)


def session(turns: int) -> Session:
    made = Session("t/s")
    for _ in range(turns):
        made.add(made.claim())
        made.add(made.finish("completed"))
    return made


async def test_the_first_turn_of_a_new_session_waits_for_one_read() -> None:
    reads = Reads()

    await reads.access.require_session(OWNER, "s", "send")

    assert reads.asked == ["read"]


async def test_whose_session_it_is_can_be_learned_before_a_turn_has_to_wait_for_it() -> None:
    reads = Reads()
    await reads.access.require_session(OWNER, "s", "send")
    assert not reads.access.knows(OWNER, "s")
    await reads.write(session(1).rows)

    await reads.access.learn(OWNER, "s")
    assert reads.asked == ["read"]
    assert reads.access.knows(OWNER, "s")
    await reads.access.require_session(OWNER, "s", "send")
    await reads.access.require_session(OWNER, "s", "act")
    assert reads.asked == ["read"], "nothing more was read"


async def test_who_asks_about_a_strangers_session_learns_nothing_and_changes_nothing() -> None:
    reads = Reads()
    await reads.write(session(1).rows)
    await reads.access.learn(OWNER, "s")

    await reads.access.learn(STRANGER, "s")

    assert (reads.access.knows(STRANGER, "s"), reads.access.knows(OWNER, "s")) == (False, True)
    with pytest.raises(Refusal) as refusal:
        await reads.access.require_session(STRANGER, "s", "send")
    assert refusal.value.code is Code.NOT_FOUND


@pytest.mark.parametrize("turns", [0, 1, 3, 4, 5, 40])
async def test_a_session_read_in_one_go_is_the_one_that_the_loader_reads(turns: int) -> None:
    reads = Reads()
    made = session(turns)
    await reads.write(made.rows)

    state = await reads.lookup.state("t", "s", perhaps_new=True)

    assert state == made.state == (await load(reads.store, "t/s")).state
