"""How many retries are left. The clock is passed in."""

from __future__ import annotations

from workers.models.budget import RetryBudget


class Bucket:
    """A budget and its clock."""

    def __init__(self, *, share: float = 0.1, window_s: float = 30.0, floor: int = 3) -> None:
        self.now_s = 0.0
        self.budget = RetryBudget(share=share, window_s=window_s, floor=floor, clock_s=lambda: self.now_s)

    def taken(self, wanted: int) -> int:
        return sum(self.budget.take() for _ in range(wanted))

    def steady(self, *, rate: float, seconds: float, wants: float = 0.0) -> int:
        """`rate` calls a second that succeed at once and `wants` retries asked for with each; how many were had."""
        had, wanted = 0, 0.0
        for _ in range(round(rate * seconds)):
            self.now_s += 1 / rate
            self.budget.earn()
            wanted += wants
            had += self.taken(int(wanted))
            wanted -= int(wanted)
        return had


def test_a_worker_without_a_past_has_the_floor() -> None:
    assert Bucket(floor=3).taken(10) == 3
    assert Bucket(floor=0).taken(10) == 0


def test_the_floor_comes_back_over_a_minute_and_no_higher() -> None:
    bucket = Bucket(floor=3)
    assert bucket.taken(3) == 3
    bucket.now_s += 20.0
    assert bucket.taken(3) == 1
    bucket.now_s += 600.0
    assert bucket.taken(10) == 3


def test_ten_calls_that_succeed_earn_one_retry() -> None:
    bucket = Bucket(floor=0)
    for _ in range(9):
        bucket.budget.earn()
    assert bucket.taken(1) == 0
    bucket.budget.earn()
    assert bucket.taken(2) == 1


def test_retries_never_exceed_their_share_however_many_are_wanted() -> None:
    bucket = Bucket(floor=3)
    had = bucket.steady(rate=20, seconds=600, wants=1.0)
    assert 1_150 <= had <= 1_200 + 3 + 30


def test_what_was_earned_and_not_needed_fades() -> None:
    bucket = Bucket(floor=0)
    bucket.steady(rate=20, seconds=600)
    assert 59 <= bucket.budget.left <= 61
    bucket.now_s += 30.0
    assert 21 <= bucket.budget.left <= 23
    bucket.now_s += 3_600.0
    assert bucket.taken(1) == 0


def test_half_a_retry_of_each_kind_is_one() -> None:
    bucket = Bucket(floor=1)
    for _ in range(5):
        bucket.budget.earn()
    assert bucket.taken(3) == 1
    assert round(bucket.budget.left, 6) == 0.5


def test_a_clock_that_stands_still_changes_nothing() -> None:
    bucket = Bucket()
    assert [bucket.budget.left, bucket.budget.left] == [3.0, 3.0]
