"""What a chaos run does is decided by its seed: the plan of faults and the traffic."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from fleet.chaos.agents import ASKS, DECIDED_S, STEP_S, STEPS
from fleet.chaos.plan import FIRST_S, LASTS_S, MEANINGS, REST_S, Fault, plan_of
from fleet.chaos.traffic import Ask, Traffic


def asks(seed: int, count: int = 2_000) -> list[Ask]:
    traffic = Traffic("r", seed=seed, sessions=40)
    return list(islice(iter(traffic.next, None), count))


def test_a_plan_is_the_same_for_the_same_seed() -> None:
    assert plan_of(7, 600, list(Fault), every_s=5) == plan_of(7, 600, list(Fault), every_s=5)
    assert plan_of(7, 600, list(Fault), every_s=5) != plan_of(8, 600, list(Fault), every_s=5)


@pytest.mark.parametrize("seed", range(20))
def test_faults_leave_the_beginning_and_the_end_in_peace(seed: int) -> None:
    plan = plan_of(seed, 120, list(Fault), every_s=4)

    assert plan[0].at_s >= FIRST_S
    assert all(planned.at_s <= 120 - REST_S for planned in plan)
    assert all(planned.at_s + planned.for_s <= 120 - REST_S / 2 + 0.01 for planned in plan)
    assert [planned.at_s for planned in plan] == sorted(planned.at_s for planned in plan)
    assert all(planned.for_s <= LASTS_S[planned.fault][1] for planned in plan)


def test_every_kind_comes_before_one_comes_twice() -> None:
    plan = plan_of(3, 600, list(Fault), every_s=5)
    rounds = [plan[start : start + len(Fault)] for start in range(0, len(plan) - len(Fault), len(Fault))]

    assert rounds
    assert all({planned.fault for planned in once} == set(Fault) for once in rounds)


def test_nothing_to_break_breaks_nothing() -> None:
    assert plan_of(1, 600, (), every_s=5) == []


def test_every_fault_has_a_meaning_and_a_time() -> None:
    assert set(MEANINGS) == set(LASTS_S) == set(Fault)


def test_traffic_is_the_same_for_the_same_seed_and_of_all_kinds() -> None:
    found = asks(5)

    assert found == asks(5)
    assert found != asks(6)
    assert {ask.agent for ask in found} == {"echo", "chat", STEPS, ASKS}
    assert {ask.by_gateway for ask in found} == {True, False}
    assert 20 < sum(ask.cancel_after_s is not None for ask in found) < 120
    assert 40 < sum(ask.again for ask in found) < 200


def test_a_copy_says_what_the_turn_said_and_a_session_keeps_its_way() -> None:
    first: dict[str, Ask] = {}
    ways: dict[str, set[tuple[str, bool]]] = {}
    for ask in asks(9):
        ways.setdefault(ask.session, set()).add((ask.agent, ask.by_gateway))
        if ask.again:
            assert ask.value == first[ask.turn].value
            assert ask == Ask(*ask[:7], again=True), "it commands nothing"
        else:
            assert ask.turn not in first
            first[ask.turn] = ask
    assert all(len(way) == 1 for way in ways.values())


def test_a_session_works_off_its_questions_faster_than_they_come_also_when_it_is_behind() -> None:
    """A decision that comes before its question is none, and the turn then waits for its end: where all do, nobody
    catches up."""
    held_s = [
        2 * STEP_S + (DECIDED_S if ask.approve_after_s is None or ask.blindly else ask.approve_after_s)
        for ask in asks(3)
        if ask.agent == ASKS and not ask.again
    ]

    assert sum(held_s) / len(held_s) < 0.75 * 100 / 32, "`make chaos`: 32 turns a second in 100 sessions"


def test_arrivals_keep_the_rate() -> None:
    traffic = Traffic("r", seed=1, sessions=1)

    assert sum(traffic.pause_s(50) for _ in range(5_000)) == pytest.approx(100, rel=0.1)


def test_answers_are_unmistakable() -> None:
    answers = Counter(ask.answer for ask in asks(2) if ask.answer and not ask.again)

    assert max(answers.values()) == 1
