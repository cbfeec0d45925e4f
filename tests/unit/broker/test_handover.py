"""Batches cross to the owner's loop in order, a bounded number at a time; hints of older generations are forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count, groupby

from broker.handover import Handover
from broker.hints import Hints
from broker.memory import MemoryRecord
from broker.port import Assignment, Record

RECORD = MemoryRecord("t", 0, 0, 0, b"k", b"v", ())


class Slow:
    """A listener that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def assigned(self, assignment: Assignment) -> None:
        self.told.append(f"assigned {assignment.generation}")

    def received(self, generation: int, records: Sequence[Record]) -> None:
        if not records:
            raise RuntimeError("cannot take it")
        self.told.append(f"received {generation}")

    def failed(self, error: BaseException) -> None:
        self.told.append(f"failed {error}")


async def test_the_order_of_facts_is_kept() -> None:
    listener = Slow()
    handover = Handover(asyncio.get_running_loop(), listener)
    handover.announce(Assignment(1, frozenset({0})))
    handover.give(1, {"t": [RECORD]})
    handover.announce(Assignment(2, frozenset({0})))
    handover.give(2, {"t": [RECORD]})
    await asyncio.sleep(0)
    assert listener.told == ["assigned 1", "received 1", "assigned 2", "received 2"]


async def test_a_full_handover_makes_the_consumer_wait_until_the_owner_has_taken_some() -> None:
    handover = Handover(asyncio.get_running_loop(), Slow(), limit=2)
    handover.give(1, {"t": [RECORD]})
    await asyncio.wait_for(handover.room(), 1)
    handover.give(1, {"t": [RECORD]})
    handover.give(1, {"t": [RECORD]})
    waiting = asyncio.create_task(handover.room())
    assert handover.outstanding >= 2
    assert not waiting.done()
    await asyncio.wait_for(waiting, 1)
    assert handover.outstanding < 2


async def test_what_is_on_its_way_is_counted_in_records() -> None:
    handover = Handover(asyncio.get_running_loop(), Slow(), limit=3)
    handover.give(1, {"t": [RECORD] * 3})
    assert handover.outstanding == 3
    await asyncio.wait_for(handover.room(), 1)
    assert handover.outstanding == 0, "one batch of three fills it"


async def test_a_partition_of_which_much_is_on_its_way_is_full_and_the_others_are_not() -> None:
    handover = Handover(asyncio.get_running_loop(), Slow(), each=3)
    handover.give(1, {"hog": [RECORD] * 3, "other": [RECORD] * 2})
    assert handover.full() == {"hog"}
    await asyncio.sleep(0)
    assert handover.full() == set()


async def test_an_assignment_comes_after_all_that_was_given_before_it() -> None:
    listener, milliseconds = Slow(), count()
    handover = Handover(asyncio.get_running_loop(), listener, clock_s=lambda: next(milliseconds) / 1_000)
    handover.give(1, {"t": [RECORD] * 50})
    handover.announce(Assignment(2, frozenset({0})))
    handover.give(2, {"t": [RECORD]})
    while handover.outstanding:
        await asyncio.sleep(0)
    assert [fact for fact, _ in groupby(listener.told)] == ["received 1", "assigned 2", "received 2"]


async def test_a_listener_that_cannot_take_records_is_told_that_it_failed() -> None:
    listener = Slow()
    handover = Handover(asyncio.get_running_loop(), listener)
    handover.give(1, {"t": []})
    await asyncio.sleep(0)
    assert listener.told == ["failed cannot take it"]
    assert handover.outstanding == 0


def test_an_owner_whose_loop_has_ended_harms_nobody() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    Handover(loop, Slow()).give(1, {"t": [RECORD]})


def test_the_latest_hint_wins_and_older_generations_are_forgotten() -> None:
    hints = Hints()
    hints.begin(1)
    hints.add(1, {("t", 0): 3, ("t", 1): 1})
    hints.add(1, {("t", 0): 5})
    hints.begin(2)
    hints.add(1, {("t", 0): 9})
    assert hints.take() == {}
    hints.add(2, {("t", 0): 4})
    hints.add(2, {("t", 0): 6})
    assert hints.take() == {("t", 0): 6}
    assert hints.take() == {}


def test_hints_that_could_not_be_committed_come_back_behind_newer_ones() -> None:
    hints = Hints()
    hints.begin(1)
    hints.add(1, {("t", 0): 7})
    hints.back(1, {("t", 0): 5, ("t", 1): 2})
    assert hints.take() == {("t", 0): 7, ("t", 1): 2}
    hints.back(9, {("t", 0): 5})
    assert hints.take() == {}
