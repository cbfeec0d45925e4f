"""The kit runs agents that work in processes of their own, by everybody's clock while they do."""

from __future__ import annotations

from fleet.testing import Lab
from schemas.codes import Code
from tests.support.deeds import apart


def test_an_agent_in_a_process_of_its_own_runs_in_a_lab() -> None:
    with Lab(apart) as lab:
        first = lab.turn("hello")
        second = lab.turn("history")
        broken = lab.turn("number")

    assert first.text == "apart: hello 0 None"
    assert second.text == "user: hello, assistant: apart: hello 0 None"
    assert (broken.outcome, broken.code) == ("failed", Code.AGENT_ERROR)
    assert first.waited_s < 10


def test_it_survives_its_worker() -> None:
    with Lab(apart, model=[]) as lab:
        points = lab.crash_everywhere("hello")

    assert [str(point) for point in points] == ["before STEP run", "after STEP run", "before FINISH"]


def test_what_hangs_is_killed_at_the_deadline(tmp_path: object) -> None:
    with Lab(apart, deadline_s=2) as lab:
        turn = lab.turn("hangs", metadata={"with": [f"{tmp_path}/note"]})

    assert (turn.outcome, turn.code) == ("failed", Code.DEADLINE_EXCEEDED)
