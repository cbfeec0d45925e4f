"""Records wait for the owner: partitions take turns, and a busy loop's other work has as long as taking has."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import groupby

from broker.inflow import SLICE_S, Inflow
from broker.memory import MemoryRecord
from broker.port import Record

EACH_S = 0.00005


class Owner:
    """A loop with a clock of its own, and a listener that takes 50 µs for each record."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.taken: list[tuple[Hashable, int, int]] = []
        self.slices_s: list[float] = []
        self._timers: list[tuple[float, Callable[[], object]]] = []
        self.inflow = Inflow(self._take, call_later=self._call_later, clock_s=lambda: self.now_s)

    def _take(self, place: Hashable, generation: int, records: Sequence[Record]) -> None:
        self.taken.extend((place, generation, record.offset) for record in records)
        self.now_s += EACH_S * len(records)

    def _call_later(self, delay: float, callback: Callable[[], object]) -> None:
        self._timers.append((self.now_s + delay, callback))

    def timed(self, what: Callable[[], object]) -> None:
        before_s = self.now_s
        what()
        self.slices_s.append(round(self.now_s - before_s, 6))

    def put(self, **counts: int) -> None:
        batches = {place: some(count) for place, count in counts.items()}
        self.timed(lambda: self.inflow.put(1, batches))

    def round(self, busy_s: float = 0.0) -> bool:
        """Until the next timer, which comes late where the loop is busy. False: there is none."""
        if not self._timers:
            return False
        (due_s, callback), *self._timers = self._timers
        self.now_s = max(due_s, self.now_s + busy_s)
        self.timed(callback)
        return True


def some(count: int, begin: int = 0) -> list[Record]:
    return [MemoryRecord("t", 0, offset, 0, b"k", b"v", ()) for offset in range(begin, begin + count)]


def test_a_big_batch_is_taken_in_slices_with_pauses_as_long_between_them() -> None:
    owner = Owner()
    owner.put(hog=1_000)
    while owner.round():
        pass
    assert [offset for _, _, offset in owner.taken] == list(range(1_000))
    assert max(owner.slices_s) < 2 * SLICE_S
    assert owner.now_s - 100.0 > 1.9 * 1_000 * EACH_S, "half of the time was left to others"


def test_where_the_loop_is_busy_a_slice_is_as_long_as_what_came_before_it() -> None:
    owner = Owner()
    owner.put(hog=5_000)
    for _ in range(4):
        owner.round(busy_s=0.02)
    assert owner.slices_s[2:] == [0.02, 0.02, 0.02]


def test_partitions_take_turns() -> None:
    owner = Owner()
    owner.put(hog=500)
    owner.put(other=3)
    while owner.round():
        pass
    places = [place for place, _ in groupby(place for place, _, _ in owner.taken)]
    assert places == ["hog", "other", "hog"]
    assert owner.taken.index(("other", 1, 0)) <= 30
    assert [offset for place, _, offset in owner.taken if place == "hog"] == list(range(500))


def test_nobody_is_passed_over_as_long_as_the_others_have_more() -> None:
    owner = Owner()
    owner.put(one=30, two=30, three=30)
    while owner.round():
        pass
    assert [place for place, _ in groupby(place for place, _, _ in owner.taken)] == ["one", "two", "three"] * 3


def test_what_comes_of_a_partition_that_waits_already_comes_after_that() -> None:
    owner = Owner()
    owner.put(hog=40)
    owner.inflow.put(2, {"hog": some(10, begin=40)})
    while owner.round():
        pass
    assert [offset for _, _, offset in owner.taken] == list(range(50))
    assert [generation for _, generation, _ in owner.taken] == [1] * 40 + [2] * 10


def test_a_few_records_are_taken_at_once_also_right_behind_each_other() -> None:
    owner = Owner()
    for number in range(8):
        owner.put(**{f"p{number}": 1})
    assert len(owner.taken) == 8
    assert not owner.round()


def test_an_idle_time_is_not_saved_up_for_a_longer_slice() -> None:
    owner = Owner()
    owner.put(other=1)
    owner.now_s += 60
    owner.put(hog=500)
    assert owner.slices_s[-1] < 2 * SLICE_S


def test_whoever_drains_it_gets_all_at_once() -> None:
    owner = Owner()
    owner.put(hog=100, other=10)
    owner.inflow.drain()
    assert len(owner.taken) == 110
    assert owner.round(), "a timer that was set finds nothing"
    assert len(owner.taken) == 110
