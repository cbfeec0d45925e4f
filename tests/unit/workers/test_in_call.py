"""A call asks its user while it runs: the turn keeps its slot, the decision is a CONTROL. One story a test."""

from __future__ import annotations

import pytest

from schemas.control import ApproveControl, CancelControl
from schemas.entries import ControlNote
from tests.support.desk import Desk

ASKED = "c.a1.1"


def approve(op: str = "a", call: str = ASKED, *, user: str = "u", allow: bool = True, **more: object) -> ApproveControl:
    given = {"op": op, "turn": "t1", "call": call, "decision": "allow" if allow else "deny", "user": user}
    return ApproveControl.model_validate({**given, **more})


def asking(*, auto: bool = True, fits: bool = True) -> Desk:
    """t1 runs, and a call of it asks."""
    desk = Desk()
    desk.turn("t1", reply_to="3:g")
    desk.intend("c")
    desk.auto = auto
    assert desk.session.asks(ASKED, lambda control: fits)
    return desk


@pytest.mark.parametrize("allow", [True, False])
def test_a_decision_is_written_down_before_the_call_hears_of_it_and_the_turn_runs_on(allow: bool) -> None:
    desk = asking(auto=False)
    op = desk.control(approve(allow=allow, answer={"size": "S"} if allow else None))
    assert (desk.decided, desk.acks) == ([], [])
    assert desk.answer() == "applied"
    note = desk.log.entries[-1]
    assert isinstance(note, ControlNote)
    assert (note.kind, note.call, note.by) == ("approve" if allow else "deny", ASKED, "u")
    assert note.value == ({"answer": {"size": "S"}} if allow else None)
    assert desk.decided == [(note.kind, "u")]
    assert desk.acks == [("a", "applied")]
    assert (desk.session.running, desk.abandoned, desk.started) == ("t1", 0, [("t1", 1)])
    assert op in desk.marked  # the turn that runs has a trigger of its own
    assert 0 not in desk.marked
    desk.auto = True
    desk.finish()
    assert desk.outcomes() == {"t1": "completed"}
    assert 0 in desk.marked


def test_a_decision_counts_once() -> None:
    desk = asking()
    desk.control(approve())
    desk.control(approve("b", allow=False))
    desk.control(approve())
    assert desk.acks == [("a", "applied"), ("b", "too_late"), ("a", "applied")]
    assert desk.decided == [("approve", "u")]
    assert desk.log.kinds == ["claim", "intent", "control"]


def test_what_comes_after_the_call_is_too_late() -> None:
    desk = asking()
    assert desk.session.asks_no_more(ASKED)
    desk.control(approve())
    assert desk.acks == [("a", "too_late")]
    desk.finish()
    desk.control(approve("b"))
    assert desk.acks[-1] == ("b", "too_late")
    assert desk.decided == []


def test_a_stranger_and_another_call_are_answered_as_unknown() -> None:
    desk = asking()
    desk.control(approve(user="mallory"))
    desk.control(approve("b", "c.a1.2"))
    assert desk.acks == [("a", "unknown"), ("b", "unknown")]
    desk.control(approve("e"))
    assert desk.acks[-1] == ("e", "applied")


def test_an_answer_that_does_not_fit_is_refused_and_the_question_stays_open() -> None:
    desk = Desk()
    desk.turn("t1")
    assert desk.session.asks(ASKED, lambda control: control.answer == "S")
    desk.control(approve(answer="huge"))
    assert (desk.acks, desk.decided) == ([("a", "refused")], [])
    desk.control(approve("b", answer="S"))
    assert desk.acks[-1] == ("b", "applied")


def test_a_decision_that_is_being_written_is_waited_for() -> None:
    desk = asking(auto=False)
    desk.control(approve())
    assert not desk.session.asks_no_more(ASKED)
    desk.answer()
    assert desk.decided == [("approve", "u")]
    assert desk.session.asks_no_more(ASKED)


def test_a_turn_that_is_cancelled_takes_no_decision_and_asks_nothing() -> None:
    desk = asking()
    desk.control(CancelControl(op="x", turn="t1", user="u"))
    assert desk.stopped == ["user"]
    desk.control(approve())
    assert desk.acks == [("a", "too_late")]
    assert not desk.session.asks("c.a1.2", lambda control: True)
    desk.finish(outcome="cancelled", by="user")
    assert desk.outcomes() == {"t1": "cancelled"}


def test_the_next_attempt_knows_nothing_of_the_question() -> None:
    desk = asking()
    other = Desk(desk.log)
    other.turn("t1", offset=0)
    assert other.started == [("t1", 2)]
    other.control(approve())
    assert other.acks == [("a", "unknown")]
    assert other.log.kinds == ["claim", "intent", "claim"]


def test_a_decision_that_collides_with_a_take_over_reaches_nobody() -> None:
    desk = asking(auto=False)
    other = Desk(desk.log)
    other.turn("t1", offset=0)
    desk.auto = True
    desk.control(approve())
    assert desk.abandoned == 1
    assert (desk.decided, desk.acks) == ([], [("a", "unknown")])


def test_a_decision_that_a_crash_left_unanswered_is_answered_by_the_next_owner() -> None:
    desk = asking(auto=False)
    desk.control(approve())
    question = desk.questions[0]
    desk.log.insert(question)  # type: ignore[arg-type]  # durable, and the worker dies
    other = Desk(desk.log)
    other.turn("t1", offset=0)
    op = other.control(approve())
    assert other.acks == [("a", "applied")]
    assert other.decided == []
    other.finish()
    assert {0, op} <= set(other.marked)


def test_a_turn_that_asked_meanwhile_may_be_suspended_later() -> None:
    desk = asking()
    desk.control(approve())
    desk.suspend("d")
    desk.control(approve("b", "d"))
    assert desk.started[-1] == ("t1", 2)
    assert desk.acks == [("a", "applied"), ("b", "applied")]
    desk.control(approve("e"))
    assert desk.acks[-1] == ("e", "too_late")
    desk.finish()
    assert desk.outcomes() == {"t1": "completed"}


def test_what_an_attempt_left_open_is_no_question_of_the_next() -> None:
    desk = asking()
    desk.suspend("d")
    desk.control(approve("a", "d"))
    assert desk.started[-1] == ("t1", 2)
    desk.control(approve("b"))
    assert desk.acks == [("a", "applied"), ("b", "unknown")]
