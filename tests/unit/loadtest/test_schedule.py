from __future__ import annotations

from collections import Counter
from itertools import islice, pairwise

import pytest

from loadtest.schedule import arrivals, sessions


def test_constant_arrivals_are_evenly_spaced_from_zero() -> None:
    assert list(islice(arrivals(4, kind="constant", seed=1), 5)) == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_poisson_arrivals_repeat_with_the_seed_and_differ_without_it() -> None:
    first, same, other = (list(islice(arrivals(100, kind="poisson", seed=seed), 50)) for seed in (7, 7, 8))
    assert first == same != other
    assert first == sorted(first)


def test_poisson_arrivals_keep_the_rate_and_have_the_spread_of_one() -> None:
    times = list(islice(arrivals(200, kind="poisson", seed=3), 20_000))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1 / 200, rel=0.03)
    assert deviation == pytest.approx(mean, rel=0.05)


def test_rounds_give_every_session_its_turn_before_any_gets_two() -> None:
    assert list(islice(sessions(3, kind="rounds", seed=1), 7)) == [0, 1, 2, 0, 1, 2, 0]


def test_uniform_sessions_are_about_equally_busy() -> None:
    found = Counter(islice(sessions(10, kind="uniform", seed=1), 20_000))
    assert set(found) == set(range(10))
    assert max(found.values()) < 1.1 * min(found.values())


def test_zipf_sessions_have_one_that_is_by_far_the_busiest() -> None:
    found = Counter(islice(sessions(1000, kind="zipf", seed=1, exponent=1.0), 50_000))
    assert found.most_common(1)[0][0] == 0
    assert found[0] / found[9] == pytest.approx(10, rel=0.2)
    assert set(found) <= set(range(1000))


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_of_nothing_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        next(arrivals(rate, kind="poisson", seed=1))


def test_no_session_is_refused() -> None:
    with pytest.raises(ValueError, match="session"):
        next(sessions(0, kind="uniform", seed=1))
