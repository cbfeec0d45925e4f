"""The history checker of `fleet chaos check` on the simulation: silent where all is well, and it finds planted bugs.

It sees topics and store alone, as an operator does, and nothing of the simulation's own ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.simulation.run import histories
from tests.simulation.test_simulation import LONG, PLANTED, conflict_taken_for_a_copy, identity_ignored, intents_ignored

FIRST, SEEDS, TURNS = 5_000, 60, 40
MOST = 150  # seeds within which a planted bug must be found
SHOWN = [plant for plant in PLANTED if plant not in {intents_ignored, conflict_taken_for_a_copy}]
"""What a tool did out there twice stands in no topic and in no store; copies of a record are not compared."""


def test_there_is_no_false_alarm() -> None:
    completed = 0
    for seed in range(FIRST, FIRST + SEEDS):
        verdict = histories(seed, TURNS)
        assert verdict.findings == [], f"seed {seed}"
        assert verdict.pending == 0
        completed += verdict.outcomes.get("completed", 0)
    assert completed >= 0.4 * SEEDS * TURNS


@pytest.mark.parametrize("plant", SHOWN, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found_in_topics_and_store(plant: Callable[[], Any]) -> None:
    turns = LONG if plant is identity_ignored else TURNS
    with plant():
        assert any(histories(seed, turns).broken for seed in range(MOST)), f"{MOST} seeds do not show it"
