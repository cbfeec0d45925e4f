from __future__ import annotations

from typing import Any

import pytest

from loadtest.answers import Ledger, Request


def request(turn: str = "t1", *, session: str = "s1", expected: str = "hello", number: int = 1) -> Request:
    return Request(session, turn, expected, expected, number, intended_s=9.0)


def frame(kind: str = "completed", turn: str = "t1", **more: Any) -> dict[str, Any]:
    base = {"type": kind, "session": "s1", "turn": turn, "attempt": 1, "seq": 5, "text": "hello"}
    return base | more


def ledger(*requests: Request) -> Ledger:
    found = Ledger()
    for each in requests or (request(),):
        found.send(each, 10.0)
    return found


def test_a_right_answer_counts_from_the_intended_start_and_from_the_sending() -> None:
    book = ledger()
    book.frame(frame(), 12.0)
    assert book.verdict().whole
    assert list(book.from_intended) == [3.0]
    assert list(book.from_sent) == [2.0]


def test_an_answer_that_does_not_come_is_missed() -> None:
    assert ledger().verdict().unanswered == 1
    assert not ledger().verdict().whole


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"text": "hell"}, "wrong text"),
        ({"session": "s2"}, "wrong session"),
        ({"type": "failed", "code": "internal", "message": "x"}, "failed"),
        ({"type": "cancelled"}, "cancelled"),
    ],
)
def test_a_wrong_answer_is_a_fault_with_an_example(change: dict[str, Any], fault: str) -> None:
    book = ledger()
    book.frame(frame(**change), 12.0)
    assert book.verdict().faults == {fault: 1}
    assert book.verdict().examples[fault].startswith("t1")
    assert not book.verdict().whole


def test_the_same_terminal_frame_again_is_allowed_and_another_one_is_a_fault() -> None:
    book = ledger()
    for again in (frame(), frame(), frame("failed", attempt=2)):
        book.frame(again, 12.0)
    assert book.verdict().repeated_frames == 1
    assert book.verdict().faults == {"second terminal frame": 1}
    assert book.verdict().completed == 1


def test_deltas_joined_must_be_the_answer() -> None:
    good, wrong = ledger(), ledger()
    for book in (good, wrong):
        book.frame(frame("delta", seq=1, text="hel"), 10.5)
    good.frame(frame("delta", seq=3, text="lo"), 10.6)
    good.frame(frame(), 12.0)
    wrong.frame(frame(), 12.0)
    assert good.verdict().whole
    assert (good.verdict().deltas, good.verdict().characters) == (2, 5)
    assert list(good.to_first) == [0.5]
    assert wrong.verdict().faults == {"stream is not the answer": 1}


def test_a_repeated_or_older_delta_is_not_counted_into_the_text() -> None:
    book = ledger()
    book.frame(frame("delta", seq=1, text="hel"), 10.5)
    book.frame(frame("delta", seq=1, text="hel"), 10.5)
    book.frame(frame("delta", seq=2, text="lo"), 10.5)
    book.frame(frame(), 12.0)
    assert book.verdict().whole
    assert book.verdict().repeated_frames == 1


def test_a_reset_replaces_what_was_streamed() -> None:
    book = ledger()
    book.frame(frame("delta", seq=1, text="wrong"), 10.5)
    book.frame(frame("reset", attempt=2, seq=0, text="he"), 10.6)
    book.frame(frame("delta", attempt=1, seq=2, text="late"), 10.6)
    book.frame(frame("delta", attempt=2, seq=1, text="llo"), 10.7)
    book.frame(frame(attempt=2), 12.0)
    assert book.verdict().whole


def test_deltas_of_a_sub_agent_are_no_part_of_the_answer() -> None:
    book = ledger()
    book.frame(frame("delta", seq=1, text="aside", run="r1"), 10.5)
    book.frame(frame(), 12.0)
    assert book.verdict().whole


def test_a_later_turn_that_ends_first_is_out_of_order_only_within_its_session() -> None:
    turns = (request("t1", number=1), request("t2", number=2), request("u1", session="s2", number=1))
    book = ledger(*turns)
    for turn, session in (("u1", "s2"), ("t2", "s1"), ("t1", "s1")):
        book.frame(frame(turn=turn, session=session), 12.0)
    assert book.verdict().faults == {"out of order": 1}


def test_frames_of_others_are_left_alone() -> None:
    book = ledger()
    for other in (frame(turn="else"), {"type": "ack", "op": "o"}, {"type": "hello"}, frame("started")):
        book.frame(other, 11.0)
    assert book.outstanding == 1
    assert book.verdict().faults == {}


def test_each_end_is_told_once_so_that_a_closed_loop_stays_closed() -> None:
    told: list[str] = []
    book = Ledger(lambda ended: told.append(ended.turn))
    book.send(request(), 10.0)
    for _ in range(3):
        book.frame(frame(), 12.0)
    assert told == ["t1"]


def test_ends_are_counted_by_window() -> None:
    book = ledger(*(request(f"t{number}", number=number) for number in range(5)))
    for number in range(5):
        book.frame(frame(turn=f"t{number}"), 11.0 + number)
    assert book.ended_between(12.0, 14.0) == 2
