"""starter-agent looks from two sides, sums up, and survives its worker."""

from __future__ import annotations

from fleet.starters.workflow import registry
from fleet.testing import Lab
from workers.models.port import ModelRequest


def said(request: ModelRequest) -> str:
    """The model, by what it is asked."""
    asked = request.messages[-1].text
    return "clear" if "is good" in asked else "short" if "doubtful" in asked else f"Judged: {asked}"


def test_it_looks_from_two_sides_and_sums_up() -> None:
    turn = Lab(registry, model=said).turn("tea is fine")

    assert turn.text == "Judged: Judge a text of 3 words.\nFor it: clear\nAgainst it: short"
    assert sorted(turn.steps) == ["bad/model", "good/model", "model", "words"]


def test_it_ends_the_same_wherever_its_worker_dies() -> None:
    lab = Lab(registry, model=said)

    points = lab.crash_everywhere("tea is fine")

    assert len(points) == 9
    assert lab.last is not None
    assert {point.outcome.text for point in points} == {lab.last.text}
