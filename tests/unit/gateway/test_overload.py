"""When the gateway says `overloaded`, for how long, and when not."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from gateway.metrics import Metrics
from gateway.overload import Overload, Overloaded
from schemas.codes import Code
from tests.unit.gateway.test_waiting import Seen, key_of


class Door:
    """An `Overload` of 10 s before what `Seen` sees."""

    def __init__(self, limit_s: float = 10.0) -> None:
        self.seen = Seen()
        registry = CollectorRegistry()
        self.metrics = Metrics(registry)
        self.overload = Overload(
            self.seen.waiting, limit_s=limit_s, clock_s=lambda: self.seen.now_s, metrics=self.metrics
        )
        self._count = registry

    def refuses(self, name: str = "new.1", partition: int = 0) -> Overloaded | None:
        try:
            self.overload.require_room(key_of(name), partition)
        except Overloaded as overloaded:
            return overloaded
        return None

    @property
    def refused(self) -> float | None:
        return self._count.get_sample_value("fleet_gateway_overloaded_total")


def test_nothing_is_refused_when_nothing_waits_for_long() -> None:
    door = Door()
    assert not door.refuses()
    for number in range(1_000):
        door.seen.send(f"s{number}.1")
    door.seen.after(9.9)
    assert not any(door.refuses() for _ in range(1_000))
    assert door.refused == 0


def test_above_the_age_one_a_second_passes_and_the_others_are_refused() -> None:
    door = Door()
    door.seen.send("a.1")
    door.seen.after(10)
    assert [bool(door.refuses()) for _ in range(5)] == [False, True, True, True, True]
    door.seen.after(1)
    assert [bool(door.refuses()) for _ in range(3)] == [False, True, True]
    assert door.refused == 6


def test_it_goes_on_until_the_age_is_half_and_then_is_over() -> None:
    door = Door()
    door.seen.send("a.1")
    door.seen.after(4).send("b.1")
    door.seen.after(6)
    door.refuses()
    door.seen.begin("a.1")
    assert door.seen.age_s == 6
    assert door.refuses(), "6 s are below the limit, and above its half"
    door.seen.begin("b.1")
    door.seen.send("c.1")
    door.seen.after(5)
    door.refuses()
    assert door.refuses(), "5 s are not below the half"
    door.seen.begin("c.1")
    assert not any(door.refuses() for _ in range(5))
    door.seen.send("d.1")
    door.seen.after(9)
    assert not any(door.refuses() for _ in range(5)), "from now on the whole limit counts again"


def test_a_turn_that_is_in_is_never_refused() -> None:
    door = Door()
    door.seen.send("a.1")
    door.seen.after(20)
    door.refuses()
    assert door.refuses()
    assert not any(door.refuses("a.1") for _ in range(5))


def test_only_the_partition_that_waits_refuses() -> None:
    door = Door()
    door.seen.send("a.1", 3)
    door.seen.after(20)
    door.refuses(partition=3)
    assert door.refuses(partition=3)
    assert not any(door.refuses(partition=partition) for partition in (0, 1, 2, 4))


def test_a_stuck_session_costs_nobody_a_turn_where_the_others_run() -> None:
    door = Door()
    door.seen.send("stuck.1", lives_s=3_600)
    door.seen.after(20)
    for number in range(100):
        assert not door.refuses(f"s{number}.1")
        door.seen.send(f"s{number}.1")
        door.seen.begin(f"s{number}.1")
        door.seen.after(1)


@pytest.mark.parametrize(("age_s", "after_ms"), [(10, 5_000), (30, 25_000), (1_000, 60_000)])
def test_retry_after_is_what_the_queue_needs_to_shrink(age_s: float, after_ms: int) -> None:
    door = Door()
    door.seen.send("a.1", lives_s=1e6)
    door.seen.after(age_s)
    door.refuses()
    overloaded = door.refuses()
    assert overloaded is not None
    assert (overloaded.code, overloaded.retry_after_ms) == (Code.OVERLOADED, after_ms)


def test_zero_turns_it_off() -> None:
    door = Door(limit_s=0)
    door.seen.send("a.1", lives_s=1e6)
    door.seen.after(100_000)
    assert not any(door.refuses() for _ in range(5))
