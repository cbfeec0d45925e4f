"""OneAgent solves every task of the corpus, also when its worker dies at any point; what is stored is sound."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fleet.testing import Lab
from schemas.history import HistoryItem, said
from tests.corpus.cases import CASES
from tests.corpus.desk import Case, World, agent
from tests.support.strict import faults
from tests.support.vendors import check_anthropic, check_openai


def test_there_are_thirty_tasks_or_more_and_each_is_one() -> None:
    assert len(CASES) >= 30
    assert len({case.user for case in CASES}) == len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_task_is_solved_and_ends_the_same_wherever_its_worker_dies(case: Case) -> None:
    world = World()
    with Lab(agent(world), model=case.model()) as lab:
        points = lab.crash_everywhere(case.user, decisions=case.decisions)
        turn = lab.last
        assert turn is not None
        assert (turn.outcome, turn.text.endswith(case.answer)) == ("completed", True), turn.text or turn.message
        assert sum(use.is_error for use in turn.tools) == case.errors
        kept = {name.removeprefix("file:"): text for name, text in lab.kept.items() if name.startswith("file:")}
        assert kept == dict(case.files)
        check_effects(world, case, runs=len(points) + 1)
        histories = [lab.history, *(tuple(point.outcome.messages) for point in points)]
    assert len(points) >= 2 * len(case.main)
    for history in histories:
        assert faults(history) == []
        check_openai(history)
        asyncio.run(check_anthropic(history))


def check_effects(world: World, case: Case, runs: int) -> None:
    """Each effect once a run, whatever died where: under one key, or, where a tool takes none, at most once."""
    assert set(world.sent) == set(case.sends)
    assert all(world.sent.count(text) <= runs for text in case.sends)
    assert sorted(world.paid.values()) == sorted([*case.pays] * runs)
    assert len(set(world.wired)) == case.wires * runs


def test_the_reader_is_strict() -> None:
    def item(number: int, **more: Any) -> HistoryItem:
        return HistoryItem(**{"id": f"t~{number}", "turn": "t", "role": "assistant", "parts": (), "at_ms": 1, **more})

    hello = said("t~0", turn="t", role="user", text="hi", at_ms=1)
    asked = CASES[0].main[1].calls[0].model_copy(update={"call": "c1"})
    result = {"role": "tool", "parts": hello.parts, "call": "c1"}
    assert faults([hello, item(1, calls=(asked,)), item(2, **result)]) == []
    for items, says in (
        ([item(1, parts=hello.parts)], "begins with its user"),
        ([hello, item(1)], "nothing is said"),
        ([hello, item(1, calls=(asked,))], "c1 has no result"),
        ([hello, item(1, calls=(asked,)), hello.model_copy(update={"id": "t~2"})], "c1 has no result"),
        ([hello, item(1, **result)], "a result for c1"),
        ([hello, hello], "this id was there before"),
        (
            [hello, item(1, calls=(asked,)), item(2, **result), item(3, calls=(asked,)), item(4, **result)],
            "was there before",
        ),
    ):
        assert any(says in fault for fault in faults(items)), says
