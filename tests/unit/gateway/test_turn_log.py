"""The recent frames of one turn."""

from __future__ import annotations

from gateway.event import ORIGIN, Event
from gateway.turn_log import TurnLog
from tests.unit.gateway.frames import accepted, completed, delta, reset, started


def log_of(*events: Event) -> TurnLog:
    log = TurnLog(("default", "s", "t"))
    for event in events:
        log.add(event)
    return log


def test_a_repeated_frame_is_kept_once() -> None:
    log = log_of(started())

    assert log.add(delta(1, "a"))
    assert not log.add(delta(1, "a"))
    assert [event.position for event in log.since(ORIGIN)] == [(1, 0), (1, 1)]


def test_frames_of_an_older_attempt_are_ignored() -> None:
    log = log_of(started(), delta(1, "a"), started(attempt=2), delta(1, "b", attempt=2))

    assert not log.add(delta(7, "late"))
    assert log.text_at(log.last) == "ab"


def test_nothing_comes_after_the_end() -> None:
    log = log_of(started(), completed(1, "a"))

    assert not log.add(delta(2, "b"))
    assert not log.add(completed(9, "b", attempt=3))


def test_the_text_at_a_place_is_what_was_shown_there() -> None:
    log = log_of(started(), delta(1, "wrong"), reset(2, "ri"), delta(3, "ght"))

    assert log.text_at((1, 1)) == "wrong"
    assert log.text_at((1, 2)) == "ri"
    assert log.text_at(log.last) == "right"


def test_what_a_sub_agent_says_is_no_part_of_the_answer() -> None:
    log = log_of(started(), delta(1, "a"), delta(2, "aside", run="r1"), delta(3, "b"))

    assert log.text_at(log.last) == "ab"


def test_what_a_sub_agent_takes_back_is_none_of_the_answer() -> None:
    log = log_of(started(), delta(1, "the"), delta(2, "x", run="r"), reset(3, "y", run="r"), delta(4, " answer"))

    assert log.text_at(log.last) == "the answer"


def test_a_log_that_began_in_the_middle_does_not_know_the_text_until_it_is_said() -> None:
    log = log_of(accepted(), delta(7, "b"))

    assert log.text_at(log.last) is None
    assert not log.covers(ORIGIN)
    assert log.covers((1, 7))
    log.add(reset(8, "abc"))
    assert log.text_at(log.last) == "abc"


def test_a_shrunken_log_still_knows_the_text() -> None:
    log = log_of(started(), *(delta(number, f"{number};") for number in range(1, 100)))
    whole = log.text_at(log.last)

    log.shrink(5_000)

    assert log.size <= 5_000
    assert log.text_at(log.last) == whole
    assert not log.covers((1, 1))
    assert log.covers((1, 98))
    assert log.since((1, 98)) == [delta(99, "99;")]


def test_the_terminal_frame_is_never_shrunk_away() -> None:
    log = log_of(started(), delta(1, "a"), completed(2, "a" * 1_000))

    log.shrink(1)

    assert [event.type for event in log.since(ORIGIN)] == ["completed"]
    assert log.terminal is not None


def test_a_later_attempt_that_begins_in_the_middle_leaves_no_silent_hole() -> None:
    log = log_of(started(), delta(1, "one"), delta(4, "three", attempt=2))
    assert not log.covers((1, 1))
    assert log.text_at((2, 4)) is None
    assert log.add(reset(5, "one two three", attempt=2))
    assert log.text_at((2, 5)) == "one two three"


def test_a_later_attempt_goes_on_with_its_first_frame() -> None:
    log = log_of(started(), delta(1, "one"), started(0, 2), reset(1, "one", attempt=2), delta(2, " two", attempt=2))
    assert log.covers((1, 1))
    assert log.text_at((2, 2)) == "one two"
