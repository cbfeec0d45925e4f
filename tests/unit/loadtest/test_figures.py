from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.figures import Latency, Spread, percentile, ratios


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.9, 0.99, 1.0, 0.0)] == [50, 90, 99, 100, 1]
    assert percentile([7.0], 0.5) == 7.0
    assert math.isnan(percentile([], 0.5))


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.001, 1))
def test_a_percentile_covers_its_share_and_no_smaller_value_does(values: list[float], share: float) -> None:
    values.sort()
    found = percentile(values, share)
    needed = share * len(values) - 1e-9
    assert sum(value <= found for value in values) >= needed
    assert sum(value < found for value in values) < math.ceil(share * len(values))


def test_latency_is_told_in_milliseconds_and_of_nothing_is_no_number() -> None:
    found = Latency.of([0.004, 0.001, 0.002, 0.003])
    assert (found.count, found.p50_ms, found.max_ms, found.mean_ms) == (4, 2.0, 4.0, 2.5)
    assert math.isnan(Latency.of([]).p50_ms)


def test_spread_has_the_median_of_odd_and_even_counts() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, (3.0, 1.0, 2.0))
    assert Spread.of([4.0, 1.0]).median == 2.5


def test_ratios_pair_what_was_measured_in_the_same_repetition() -> None:
    assert ratios([10.0, 30.0], [10.0, 15.0]) == [1.0, 2.0]
    assert math.isnan(ratios([1.0], [0.0])[0])
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0], [])
