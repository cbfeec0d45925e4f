"""Quarantine with a whole worker and the operator's commands: what waits, what goes first, what is said twice."""

from __future__ import annotations

import asyncio
import json

import pytest

from broker.memory import MemoryPublisher, MemoryScan
from fleet.redrive import Office, discard, find, redrive
from tests.support.memory_fleet import MemoryFleet
from tests.support.poison import claimed
from workers.agent import AgentTurn, agent
from workers.context import Context


@agent(name="waits", version="1", on_poison="wait")
async def waits(turn: AgentTurn, ctx: Context) -> str:
    return f"ran {turn.text}"


async def poisoned(fleet: MemoryFleet) -> Office:
    """t1 of s1 killed its worker once too often, t2 and t3 came after it."""
    fleet.turn("s1", "boom", turn="t1", user="u")
    await claimed(fleet.store, fleet.records("agent.turns")[0], agent="waits")
    fleet.turn("s1", "two", turn="t2", user="u")
    await fleet.worker()
    await fleet.until(lambda: "s1~t1" in fleet.terminals())
    fleet.turn("s1", "three", turn="t3", user="u")
    while len((await fleet.state("s1")).parked) < 2:
        await asyncio.sleep(0.01)
    await fleet.until(fleet.committed_everything)
    publisher = MemoryPublisher(fleet.cluster, ("agent.turns", "agent.control"))
    await publisher.start()
    return Office(MemoryScan(fleet.cluster), publisher, fleet.store, fleet.clock_ms)


def ends(fleet: MemoryFleet) -> list[str]:
    """Texts of completed turns of s1, in order, each once."""
    return list(dict.fromkeys(frame["text"] for frame in fleet.frames("s1", "completed")))


@pytest.mark.parametrize("twice", [False, True])
async def test_redriven_it_goes_before_what_waited(twice: bool) -> None:
    async with MemoryFleet(waits, default="waits", worker_tries=1) as fleet:
        office = await poisoned(fleet)
        assert ends(fleet) == []
        found = await find(office, lambda _: True, values=True)
        done = await redrive(office, found.letters)
        assert [one.state for one in done] == ["redriven"]
        if twice:
            await redrive(office, found.letters)
        await fleet.until(lambda: len(ends(fleet)) == 3)
        assert ends(fleet) == ["ran boom", "ran two", "ran three"]
        assert (await fleet.state("s1")).quarantine is None
        await fleet.until(fleet.committed_everything)
        acks = [frame["state"] for frame in fleet.frames("s1", "ack")]
        assert acks == ["applied"]


async def test_discarded_what_waited_goes_on_and_a_second_time_changes_nothing() -> None:
    async with MemoryFleet(waits, default="waits", worker_tries=1) as fleet:
        office = await poisoned(fleet)
        found = await find(office, lambda _: True, values=True)
        for _ in range(2):
            assert [one.state for one in await discard(office, found.letters)] == ["discarded"]
        await fleet.until(lambda: len(ends(fleet)) == 2)
        assert ends(fleet) == ["ran two", "ran three"]
        await fleet.until(fleet.committed_everything)
        ops = {json.loads(record.value)["op"] for record in fleet.records("agent.control")}
        assert len(ops) == 1


async def test_nobody_deals_with_it_and_its_time_is_up() -> None:
    async with MemoryFleet(waits, default="waits", worker_tries=1) as fleet:
        fleet.sessions = fleet.sessions.model_copy(update={"session_quarantine_s": 1})
        await poisoned(fleet)
        await fleet.until(lambda: len(ends(fleet)) == 2)
        assert ends(fleet) == ["ran two", "ran three"]
