"""Quarantine: behind a poisonous turn a session waits, where its agent says so, until the dead letter is dealt with."""

from __future__ import annotations

import pytest

from schemas.control import CancelControl, DeleteControl, ReleaseControl
from schemas.entries import Finish
from tests.support.desk import TERMS, Desk, Log

LETTER = "agent.turns/0@0"
LATE_MS = 10_000_000_000_000


def desk_of(log: Log | None = None) -> Desk:
    return Desk(log, terms=lambda _: TERMS._replace(waits_for_poison=True))


def poisoned(*more: str) -> Desk:
    """t1 was tried three times; `more` came after it."""
    desk = desk_of()
    desk.turn("t1", deadline_ms=LATE_MS)
    for _ in range(3):
        desk = desk_of(desk.log)
        desk.turn("t1", offset=0, deadline_ms=LATE_MS)
    assert desk.outcomes() == {"t1": "failed"}
    desk.offset = 1
    for turn in more:
        desk.turn(turn, deadline_ms=LATE_MS)
    return desk


def release(turn: str | None = None, *, op: str = "r", letter: str = LETTER) -> ReleaseControl:
    return ReleaseControl(op=op, letter=letter, turn=turn, user="u")


def test_the_finish_says_so_after_the_timer_and_later_turns_are_parked_and_marked() -> None:
    desk = poisoned("t2", "t3")
    finish = next(entry for entry in desk.log.entries if isinstance(entry, Finish))
    assert finish.quarantine is not None and finish.quarantine.letter == LETTER
    assert ("t1", LETTER) in desk.log.timers
    assert desk.log.kinds[-3:] == ["finish", "park", "park"]
    assert desk.marked == [0, 1, 2]
    assert desk.faults and desk.session.idle


def test_an_agent_that_skips_goes_on() -> None:
    desk = Desk()
    desk.turn("t1", deadline_ms=LATE_MS)
    for _ in range(3):
        desk = Desk(desk.log)
        desk.turn("t1", offset=0, deadline_ms=LATE_MS)
    desk.turn("t2", offset=1)
    assert desk.session.running == "t2"
    assert desk.log.timers == {}


def test_discarded_the_others_run_in_order_and_the_op_is_marked_after_them() -> None:
    desk = poisoned("t2", "t3")
    op = desk.control(release())
    assert desk.acks == [("r", "applied")]
    assert desk.started == [("t2", 1)]
    desk.finish()
    assert op not in desk.marked
    desk.finish()
    assert op in desk.marked
    desk.wake("t1", LETTER)
    desk.wake("t2", "")
    desk.wake("t3", "")
    assert desk.log.timers == {}
    assert desk.session.idle


@pytest.mark.parametrize("first", ["the record", "the op"])
def test_redriven_it_runs_before_all_that_waited(first: str) -> None:
    desk = poisoned("t2", "t3")
    if first == "the record":
        desk.turn("t1b", deadline_ms=LATE_MS)
        desk.control(release("t1b"))
    else:
        desk.control(release("t1b"))
        desk.turn("t4", deadline_ms=LATE_MS)
        desk.turn("t1b", deadline_ms=LATE_MS)
    while desk.session.running:
        desk.finish()
    ran = [turn for turn, _ in desk.started]
    assert ran == ["t1b", "t2", "t3", *(["t4"] if first == "the op" else [])]
    assert desk.log.state().quarantine is None


def test_redriven_and_poisonous_again_it_begins_a_new_quarantine() -> None:
    desk = poisoned("t2")
    desk.control(release("t1b"))
    place = desk.turn("t1b", deadline_ms=LATE_MS)
    for _ in range(3):
        desk = desk_of(desk.log)
        desk.turn("t1b", offset=place, deadline_ms=LATE_MS)
    held = desk.log.state().quarantine
    assert held is not None and (held.turn, held.letter) == ("t1b", f"agent.turns/0@{place}")
    desk.wake("t1", LETTER)  # that of the first quarantine: over
    assert ("t1", LETTER) not in desk.log.timers
    assert ("t1b", held.letter) in desk.log.timers
    desk.control(release(op="r2", letter=held.letter))
    assert desk.started == [("t2", 1)]


@pytest.mark.parametrize("redriven", [False, True])
def test_it_ends_when_its_time_is_up_whatever_came(redriven: bool) -> None:
    desk = poisoned("t2")
    if redriven:
        desk.control(release("t1b"))  # and the record never comes
    desk.wake("t1", LETTER)
    assert desk.started == [("t2", 1)]
    assert ("t1", LETTER) in desk.log.timers
    desk.finish()
    assert ("t1", LETTER) not in desk.log.timers


def test_the_next_owner_keeps_the_quarantine_and_its_timer_frees_it() -> None:
    other = desk_of(poisoned("t2").log)
    other.turn("t3", offset=5, deadline_ms=LATE_MS)
    assert other.started == []
    assert 5 in other.marked
    other.wake("t1", LETTER)
    other.finish()
    other.finish()
    assert [turn for turn, _ in other.started] == ["t2", "t3"]
    assert other.outcomes() == {"t1": "failed", "t2": "completed", "t3": "completed"}


def test_a_release_said_again_is_harmless_and_one_of_another_letter_unknown() -> None:
    desk = poisoned("t2")
    desk.control(release(op="x", letter="agent.turns/9@9"))
    assert desk.acks == [("x", "unknown")]
    desk.control(release())
    desk.control(release(), offset=50)
    desk.finish()
    assert desk.acks[1:] == [("r", "applied"), ("r", "applied")]
    assert 50 in desk.marked
    desk.control(release(op="y"))
    assert desk.acks[-1] == ("y", "unknown")


def test_cancel_reject_interrupt_and_delete_go_on_meanwhile() -> None:
    desk = poisoned("t2")
    desk.turn("t3", if_busy="reject", deadline_ms=LATE_MS)
    desk.control(CancelControl(op="c", turn="t2", user="u"))
    assert desk.outcomes() == {"t1": "failed", "t3": "failed", "t2": "cancelled"}
    desk.turn("t4", deadline_ms=LATE_MS)
    desk.turn("t5", if_busy="interrupt", deadline_ms=LATE_MS)
    assert desk.outcomes()["t4"] == "cancelled"
    assert desk.started == []
    desk.control(DeleteControl(op="d", user="u"))
    assert desk.outcomes()["t5"] == "cancelled"
    assert desk.log.state().quarantine is None
    desk.turn("t6", deadline_ms=LATE_MS)
    assert desk.session.running == "t6"


def test_a_parked_turn_that_runs_out_of_time_is_settled_while_it_waits() -> None:
    desk = poisoned()
    desk.turn("t2")
    desk.wake("t2", "")
    assert desk.outcomes()["t2"] == "failed"
    assert desk.started == []
