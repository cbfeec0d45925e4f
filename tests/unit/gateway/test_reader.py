"""How far one connection has got: nothing twice, nothing out of order, no hole."""

from __future__ import annotations

from gateway.event import Event
from gateway.reader import Reader
from tests.unit.gateway.frames import accepted, completed, delta, reset, started


def reader() -> tuple[Reader, list[Event]]:
    seen: list[Event] = []
    return Reader("default", "ann", seen.append), seen


def test_no_frame_comes_twice() -> None:
    one, seen = reader()
    for event in (started(), delta(1, "a"), delta(1, "a"), started(), delta(2, "b")):
        one.offer(event)

    assert [event.seq for event in seen] == [0, 1, 2]


def test_what_is_held_waits_and_comes_after_the_replay() -> None:
    one, seen = reader()
    one.hold("s", "t")
    one.offer(delta(1, "a"))
    assert seen == []
    one.release("s", "t", [started(), delta(1, "a")])

    assert [event.position for event in seen] == [(1, 0), (1, 1)]


def test_a_held_session_holds_all_its_turns() -> None:
    one, seen = reader()
    one.hold("s", None)
    one.offer(started(turn="a"))
    one.offer(started(turn="b"))
    one.release("s", None)

    assert [event.turn for event in seen] == ["a", "b"]


def test_what_was_dropped_never_comes() -> None:
    one, seen = reader()
    one.hold("s", "t")
    one.offer(started())
    one.drop("s", "t")
    one.offer(delta(1, "a"))

    assert seen == [], "its beginning was dropped"


def test_of_a_turn_whose_beginning_was_not_seen_no_delta_comes_before_the_text_is_said() -> None:
    one, seen = reader()
    for event in (accepted(), delta(7, "x"), delta(8, "y"), reset(9, "xyz"), delta(10, "!"), completed(11, "xyz!")):
        one.offer(event)

    assert [event.type for event in seen] == ["accepted", "reset", "delta", "completed"]


def test_of_a_turn_whose_beginning_was_seen_everything_comes() -> None:
    one, seen = reader()
    events = [accepted(), started(), delta(1, "x"), started(attempt=2), delta(1, "y", attempt=2)]
    for event in events:
        one.offer(event)

    assert seen == events


def test_a_connection_that_goes_on_where_it_was_gets_the_next_delta() -> None:
    one, seen = reader()
    one.start_at("s", "t", (1, 6))
    one.offer(delta(6, "old"))
    one.offer(delta(7, "new"))

    assert [event.text for event in seen] == ["new"]


def test_a_blind_connection_sees_when_the_end_says_the_text() -> None:
    one, seen = reader()
    one.start_at("s", "t", (1, 6), blind=True)
    one.offer(delta(7, "x"))
    one.offer(completed(8, "all"))

    assert [event.type for event in seen] == ["completed"]
    assert not one.is_blind("s", "t")


def test_only_so_many_turns_are_remembered() -> None:
    one, seen = reader()
    for number in range(2_000):
        one.offer(completed(0, "x", turn=f"t{number}"))

    assert len(seen) == 2_000
    assert one.position("s", "t0") is None
    assert one.position("s", "t1999") == (1, 0)


def test_deltas_of_a_later_attempt_that_begins_in_the_middle_wait_until_the_text_is_said() -> None:
    one, got = reader()
    for event in (started(), delta(1, "one"), delta(4, "three", attempt=2), reset(5, "all", attempt=2)):
        one.offer(event)
    assert [event.type for event in got] == ["started", "delta", "reset"]
