"""starter-agent answers, remembers, and survives its worker."""

from __future__ import annotations

from fleet.starters.chat import registry
from fleet.testing import Lab, says


def test_it_answers_and_remembers() -> None:
    lab = Lab(registry, model=[says("Hello Ada."), says("You are Ada.")])

    first = lab.turn("I am Ada")
    second = lab.turn("who am I?")

    assert (first.text, second.text) == ("Hello Ada.", "You are Ada.")
    assert [message.text for message in second.requests[0].messages] == ["I am Ada", "Hello Ada.", "who am I?"]


def test_it_ends_the_same_wherever_its_worker_dies() -> None:
    points = Lab(registry, model=[says("Hello.")]).crash_everywhere("hi")

    assert {point.outcome.text for point in points} == {"Hello."}
