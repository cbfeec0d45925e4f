"""The table of mutants is whole: each promise that has a proof has one, and what is planted by a test is in it."""

from __future__ import annotations

from tests.mutants.__main__ import table
from tests.mutants.table import ALL, Mutant
from tests.simulation.test_simulation import PLANTED


def test_each_promise_of_the_engine_has_a_mutant() -> None:
    assert {mutant.promise for mutant in ALL} >= {f"P{number}" for number in range(1, 15)}


def test_every_bug_that_the_simulation_plants_is_in_the_table() -> None:
    tests = {mutant.test for mutant in ALL}
    assert {plant.__name__ for plant in PLANTED} <= {test.partition("[")[2].rstrip("]") for test in tests}


def test_no_mutant_stands_twice() -> None:
    assert len({mutant.name for mutant in ALL}) == len(ALL)


def test_the_table_says_what_was_not_caught() -> None:
    rows = table((Mutant("P1", "a", "t::a"), Mutant("P2", "b", "t::b")), (True, False)).splitlines()
    assert rows[2:] == ["| P1 | a | t::a |", "| P2 | b | NOT CAUGHT |"]
