from __future__ import annotations

from collections.abc import Callable

from loadtest.wheel import Wheel


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0
        self.timers: list[tuple[float, Callable[[], object]]] = []

    def time(self) -> float:
        return self.now_s

    def call_at(self, when: float, callback: Callable[[], object], /) -> object:
        self.timers.append((when, callback))
        return None

    def run(self, until_s: float) -> None:
        while self.timers and min(self.timers)[0] <= until_s:
            timer = min(self.timers, key=lambda found: found[0])
            self.timers.remove(timer)
            self.now_s = max(self.now_s, timer[0])
            timer[1]()
        self.now_s = until_s


class Member:
    def __init__(self, *again_s: float) -> None:
        self.called_s: list[float] = []
        self._again = list(again_s)

    def advance(self, now_s: float) -> float | None:
        self.called_s.append(now_s)
        return self._again.pop(0) if self._again else None


def test_a_member_is_called_after_its_time_and_at_most_a_tick_later() -> None:
    clock = Clock()
    wheel, member = Wheel(clock, tick_s=0.01), Member(50.2, 50.235)
    wheel.add(member, 50.1)
    clock.run(51)
    assert len(member.called_s) == 3
    for due_s, called_s in zip((50.1, 50.2, 50.235), member.called_s, strict=True):
        assert due_s <= called_s <= due_s + 0.0101


def test_a_moment_that_is_past_comes_with_the_next_tick() -> None:
    clock = Clock()
    wheel, member = Wheel(clock, tick_s=0.01), Member(1.0)
    wheel.add(member, 0.0)
    clock.run(50.05)
    assert len(member.called_s) == 2


def test_an_empty_wheel_has_no_timer_and_starts_again_after_a_pause() -> None:
    clock = Clock()
    wheel = Wheel(clock, tick_s=0.01)
    wheel.add(Member(), 50.0)
    clock.run(60)
    assert clock.timers == []
    late = Member()
    wheel.add(late, 60.5)
    clock.run(61)
    assert len(late.called_s) == 1
    assert 60.5 <= late.called_s[0] <= 60.511


def test_a_loop_that_was_away_catches_up_at_once() -> None:
    clock = Clock()
    wheel, early, later = Wheel(clock, tick_s=0.01), Member(), Member()
    wheel.add(early, 50.02)
    wheel.add(later, 50.9)
    clock.now_s = 52.0
    clock.run(52.0)
    assert early.called_s == later.called_s == [52.0]
