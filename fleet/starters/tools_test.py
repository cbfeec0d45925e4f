"""starter-agent looks prices up, asks before it orders, and survives its worker."""

from __future__ import annotations

from fleet.starters.tools import registry
from fleet.testing import Lab, allows, asks, says


def test_it_looks_a_price_up() -> None:
    turn = Lab(registry, model=[asks("price", item="tea"), says("Tea is 3.")]).turn("what is tea?")

    assert turn.text == "Tea is 3."
    assert [(use.name, use.arguments, use.result) for use in turn.tools] == [("price", {"item": "tea"}, 3)]


def test_it_orders_only_what_its_user_allows() -> None:
    lab = Lab(registry, model=[asks("order", item="cake", pieces=2), says("One cake, then.")])

    turn = lab.turn("two cakes")
    assert turn.asks is not None
    assert turn.asks.arguments == {"item": "cake", "pieces": 2}

    done = lab.decide(allow=True, arguments={"item": "cake", "pieces": 1})
    assert (done.text, done.tools[0].result) == ("One cake, then.", "ordered 1 cake")


def test_nothing_is_ordered_when_nobody_allows_it() -> None:
    lab = Lab(registry, model=[asks("order", item="cake", pieces=2), says("No cake, then.")])
    lab.turn("two cakes")

    done = lab.wait(2 * 86_400)

    assert (done.text, done.tools[0].is_error) == ("No cake, then.", True)


def test_it_ends_the_same_wherever_its_worker_dies() -> None:
    lab = Lab(registry, model=[asks("order", item="tea", pieces=1), says("Done.")])

    points = lab.crash_everywhere("one tea", decisions=[allows()])

    assert {point.outcome.text for point in points} == {"Done."}
    assert not any(point.unknown for point in points)
