"""Suspended turns: asked, decided, denied in time, parked behind, ended. One story a test."""

from __future__ import annotations

import pytest

from schemas.control import ApproveControl, CancelControl, DeleteControl, SteerControl
from schemas.entries import Claim, ControlNote, Settle
from tests.support.desk import Desk
from workers.admission import PARKED_LIMIT

HOUR_MS = 3_600_000


def approve(call: str = "c", op: str = "a", turn: str = "t1", *, user: str = "u", allow: bool = True) -> ApproveControl:
    return ApproveControl(op=op, turn=turn, call=call, decision="allow" if allow else "deny", user=user)


def suspended(*more: str) -> Desk:
    """t1 awaits a decision on `c`; `more` came after it."""
    desk = Desk()
    late_ms = desk.now_ms + 10 * HOUR_MS
    desk.turn("t1", reply_to="3:g", deadline_ms=late_ms)
    desk.suspend("c")
    for turn in more:
        desk.turn(turn, deadline_ms=late_ms)
    return desk


def again(desk: Desk, *, auto: bool = True) -> Desk:
    """The next owner, which knows nothing but the journal."""
    other = Desk(desk.log, auto=auto)
    other.now_ms = desk.now_ms
    return other


def test_a_suspended_turn_holds_neither_slot_nor_offset_and_its_user_is_asked() -> None:
    desk = Desk(auto=False)
    desk.turn("t1", reply_to="3:g")
    desk.answer()
    desk.answer()
    desk.suspend("c")
    assert desk.log.kinds == ["claim"]
    assert desk.answer() == ""  # the timer is in before the SUSPEND
    assert list(desk.log.timers) == [("t1", "c")]
    assert desk.log.kinds == ["claim"]
    assert desk.answer() == "applied"
    assert (desk.abandoned, desk.slots, desk.session.running) == (1, 1, None)
    assert desk.requests == [("t1", "c")]
    assert desk.to["c"] == {"3:g"}
    assert desk.marked == []  # not before the question is acknowledged by the broker
    assert not desk.session.idle
    desk.acknowledge()
    assert desk.marked == [0]
    assert desk.session.idle


@pytest.mark.parametrize("allow", [True, False])
def test_a_decision_brings_the_turn_back_and_is_marked_when_the_turn_is_over(allow: bool) -> None:
    desk = suspended()
    op = desk.control(approve(allow=allow))
    assert desk.acks == [("a", "applied")]
    assert desk.decided == [("approve" if allow else "deny", "u")]
    assert desk.started == [("t1", 1), ("t1", 2)]
    claim = desk.log.entries[-1]
    assert isinstance(claim, Claim) and claim.tries == 1
    assert op not in desk.marked
    desk.finish()
    assert desk.outcomes() == {"t1": "completed"}
    assert desk.to["t1"] == {"3:g"}  # who had asked for it, though its record is long marked
    assert desk.marked == [0, op]
    desk.wake("t1", "c")  # over and acknowledged
    assert desk.log.timers == {}
    assert desk.session.idle


def test_a_later_turn_that_asks_about_a_call_of_the_same_name_is_asked_about_too() -> None:
    desk = suspended()
    desk.control(approve())
    desk.finish()
    desk.turn("t2")
    desk.suspend("c")
    assert desk.requests == [("t1", "c"), ("t2", "c")]


def test_what_the_user_decides_with_it_is_in_the_journal() -> None:
    desk = suspended()
    desk.control(ApproveControl(op="a", turn="t1", call="c", decision="allow", user="u", arguments={"x": 1}, note="n"))
    note = desk.log.entries[2]
    assert isinstance(note, ControlNote)
    assert (note.kind, note.call, note.by, note.value) == ("approve", "c", "u", {"arguments": {"x": 1}, "note": "n"})


def test_nobody_decides_in_time_so_it_is_denied() -> None:
    desk = suspended()
    desk.wake("t1", "c")
    assert desk.decided == [("deny", "deadline")]
    assert desk.started[-1] == ("t1", 2)
    assert list(desk.log.timers) == [("t1", "c")]  # not before the turn is over and acknowledged
    desk.finish()
    assert desk.log.timers == {}


def test_the_deadline_stands_still_while_a_turn_is_suspended() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.now_ms += 20_000
    desk.suspend("c")
    desk.now_ms += HOUR_MS
    desk.control(approve())
    claim = desk.log.entries[-1]
    assert isinstance(claim, Claim)
    assert claim.deadline_ms == desk.now_ms + 40_000  # 60 s in all, 20 of them were used


@pytest.mark.parametrize("crash", ["before the question", "after the decision", "while it runs again", "after FINISH"])
def test_a_crash_strands_nothing_for_the_timer_brings_it_back(crash: str) -> None:
    desk = suspended()
    if crash != "before the question":
        desk.control(approve())
    if crash == "after FINISH":
        desk.auto = False
        desk.finish()
        desk.answer()
        assert desk.marked == [0]
    if crash == "after the decision":
        desk.log.entries.pop()  # the CLAIM
    other = again(desk)
    other.wake("t1", "c")
    if other.session.running:
        assert other.started == [("t1", 3 if crash == "while it runs again" else 2)]
        assert list(other.log.timers) == [("t1", "c")]
        other.finish()
    assert other.outcomes() == {"t1": "completed"}
    assert other.log.timers == {}
    assert other.session.idle


def test_a_turn_that_comes_again_has_its_question_published_again_then_it_is_marked() -> None:
    other = again(suspended(), auto=False)
    other.turn("t1", offset=0)
    other.answer()
    assert other.requests == [("t1", "c")]
    assert other.marked == []
    other.acknowledge()
    assert other.marked == [0]
    assert other.session.idle


def test_a_second_question_has_a_timer_of_its_own_and_frees_that_of_the_first() -> None:
    desk = suspended()
    desk.control(approve())
    desk.suspend("d")
    assert set(desk.log.timers) == {("t1", "c"), ("t1", "d")}
    desk.wake("t1", "c")
    assert set(desk.log.timers) == {("t1", "d")}
    desk.wake("t1", "d")
    desk.finish()
    assert desk.outcomes() == {"t1": "completed"}
    assert desk.log.timers == {}


def test_the_first_timer_stays_until_the_second_question_is_acknowledged() -> None:
    desk = suspended()
    desk.control(approve())
    desk.auto = False
    desk.suspend("d")
    desk.answer()  # armed
    desk.answer()  # SUSPEND
    desk.wake("t1", "c")
    assert ("t1", "c") in desk.log.timers
    desk.acknowledge()
    assert ("t1", "c") not in desk.log.timers


# ---- what waits behind it


def test_turns_behind_it_are_parked_marked_and_run_in_order_afterwards() -> None:
    desk = suspended("t2", "t3")
    assert desk.log.kinds == ["claim", "suspend", "park", "park"]
    assert desk.marked == [0, 1, 2]
    assert desk.session.idle
    assert ("t2", "") in desk.log.timers
    desk.control(approve())
    desk.turn("t4")
    for _ in range(4):
        desk.finish()
    assert [turn for turn, _ in desk.started] == ["t1", "t1", "t2", "t3", "t4"]
    assert [item.text for item in desk.log.state().history] == ["hi"] * 8


def test_a_trigger_of_the_suspended_turn_waits_for_all_that_was_parked_behind_it() -> None:
    desk = suspended("t2")
    op = desk.control(approve())
    desk.finish()
    assert op not in desk.marked
    desk.finish()
    assert op in desk.marked
    desk.wake("t1", "c")
    desk.wake("t2", "")
    assert desk.log.timers == {}


def test_after_a_crash_the_timer_publishes_what_was_parked_behind_it_as_well() -> None:
    desk = suspended("t2")
    desk.control(approve())
    desk.auto = False
    desk.finish()  # FINISH of t1 is not acknowledged, t2 runs
    desk.answer()
    desk.answer()
    desk.finish()
    desk.answer()
    assert desk.unacked == ["t1", "t2"]
    other = again(desk)
    other.wake("t1", "c")
    assert [turn for turn, _ in other.published][:2] == ["t1", "t2"]
    assert ("t1", "c") not in other.log.timers


def test_frames_of_a_resumed_turn_come_before_anything_later_of_the_session() -> None:
    desk = suspended()
    desk.control(approve())
    desk.auto = False
    desk.finish()
    desk.answer()
    assert desk.unacked == ["t1"]
    other = again(desk)
    other.turn("t2", offset=9)  # no trigger of t1 has come: its record was marked long ago
    other.finish()
    assert [turn for turn, _ in other.published] == ["t1", "t2"]


def test_more_than_is_remembered_waits_behind_it_and_no_frame_is_lost() -> None:
    behind = [f"p{n}" for n in range(PARKED_LIMIT)]
    desk = suspended(*behind)
    desk.turn("late")
    assert desk.outcomes()["late"] == "failed"  # busy
    desk.auto = False
    desk.control(approve())
    for _ in range(4 * PARKED_LIMIT):
        if desk.questions:
            desk.answer()
        elif desk.session.running:
            desk.finish()
    other = again(desk)
    other.wake("t1", "c")
    while other.session.running:
        other.finish()
    assert {turn for turn, _ in other.published} >= {"t1", *behind}
    assert ("t1", "c") not in other.log.timers


def test_a_parked_turn_is_cancelled_or_runs_out_of_time_where_it_waits() -> None:
    desk = suspended("t2", "t3")
    desk.control(CancelControl(op="x", turn="t2", user="u"))
    desk.wake("t3", "")
    assert desk.acks == [("x", "applied")]
    assert desk.outcomes() == {"t2": "cancelled", "t3": "failed"}
    settled = [entry for entry in desk.log.entries if isinstance(entry, Settle)]
    assert [entry.known for entry in settled] == [True, True]
    assert set(desk.log.timers) == {("t1", "c"), ("t2", "")}
    desk.wake("t2", "")
    desk.control(approve())
    desk.finish()
    assert desk.session.idle


def test_a_parked_turn_that_comes_again_is_marked_and_other_content_is_refused() -> None:
    desk = suspended("t2")
    again_at = desk.turn("t2")
    other = desk.turn("t2", "something else")
    assert desk.marked == [0, 1, again_at, other]
    assert desk.refused == [(other, "conflict")]
    assert desk.log.kinds == ["claim", "suspend", "park"]


# ---- policies and commands


@pytest.mark.parametrize("policy", ["interrupt", "rollback"])
def test_a_policy_ends_the_suspended_turn_and_the_parked_ones(policy: str) -> None:
    desk = suspended("t2")
    desk.turn("t3", if_busy=policy)
    desk.finish()
    assert desk.outcomes() == {"t1": "cancelled", "t2": "cancelled", "t3": "completed"}
    assert [turn for turn, _ in desk.published] == ["t1", "t2", "t3"]
    assert [item.turn for item in desk.log.state().history if item.role == "user"] == (
        ["t3"] if policy == "rollback" else ["t1", "t3"]
    )


def test_reject_is_refused_and_steer_waits() -> None:
    desk = suspended()
    desk.turn("t2", if_busy="reject")
    desk.turn("t3", if_busy="steer")
    assert desk.outcomes() == {"t2": "failed"}
    assert [parked.turn for parked in desk.log.state().parked] == ["t3"]


def test_a_steer_by_command_joins_the_suspended_turn() -> None:
    desk = suspended()
    desk.control(SteerControl(op="s", turn="t1", text="more", user="u"))
    assert desk.acks == [("s", "applied")]
    state = desk.log.state()
    assert state.open is not None and [note.op for note in state.open.joined] == ["s"]
    assert state.open.awaits is not None


def test_a_cancel_ends_it_and_keeps_what_was_shown() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.step("model", text="I would ")
    desk.suspend("c", text="pay now?")
    desk.turn("t2")
    op = desk.control(CancelControl(op="x", turn="t1", user="u"))
    assert desk.acks == [("x", "applied")]
    assert desk.outcomes() == {"t1": "cancelled"}
    assert '"text":"I would pay now?"' in desk.published[0][1]
    assert op not in desk.marked  # t2 was parked behind it
    desk.finish()
    assert op in desk.marked
    desk.wake("t1", "c")
    desk.wake("t2", "")
    assert desk.log.timers == {}


def test_a_cancel_that_comes_while_the_suspend_is_written_holds() -> None:
    desk = Desk(auto=False)
    desk.turn("t1")
    desk.answer()
    desk.answer()
    desk.suspend("c")
    desk.answer()  # armed; the SUSPEND is on its way
    desk.control(CancelControl(op="x", turn="t1", user="u"))
    desk.answer()
    assert desk.stopped == []  # while it was asked nothing was decided
    while desk.questions:
        desk.answer()
    assert desk.outcomes() == {"t1": "cancelled"}


def test_a_stop_that_is_under_way_is_not_undone_by_a_suspend() -> None:
    desk = Desk(auto=False)
    desk.turn("t1")
    desk.answer()
    desk.answer()
    desk.control(CancelControl(op="x", turn="t1", user="u"))
    assert desk.stopped == ["user"]
    desk.suspend("c")  # the agent has not heard yet
    desk.answer()
    desk.answer()
    assert desk.log.kinds == ["claim", "suspend"]
    assert desk.session.running == "t1"
    desk.finish(outcome="cancelled", by="user")
    while desk.questions:
        desk.answer()
    assert desk.outcomes() == {"t1": "cancelled"}
    assert desk.requests == []


def test_a_delete_ends_it_and_all_behind_it() -> None:
    desk = suspended("t2")
    desk.control(DeleteControl(op="d", user="u"))
    assert desk.acks == [("d", "applied")]
    assert desk.outcomes() == {"t1": "cancelled", "t2": "cancelled"}
    assert desk.to["t1"] == {"3:g"}
    desk.wake("t1", "c")
    desk.wake("t2", "")
    assert desk.log.timers == {}
    assert desk.session.idle


# ---- decisions that count for nothing


def test_a_decision_counts_once() -> None:
    desk = suspended()
    desk.control(approve())
    desk.control(approve(op="b", allow=False))
    desk.control(approve(), offset=77)  # the same op again: a trigger of its turn
    assert desk.acks == [("a", "applied"), ("b", "too_late"), ("a", "applied")]
    assert desk.decided == [("approve", "u")]
    assert 77 not in desk.marked
    desk.finish()
    assert 77 in desk.marked
    desk.control(approve(op="e"))
    assert desk.acks[-1] == ("e", "too_late")


def test_a_stranger_and_a_wrong_call_are_answered_as_unknown() -> None:
    desk = suspended()
    desk.control(approve(user="mallory"))
    desk.control(approve("other", op="b"))
    desk.control(approve(op="e", turn="t9"))
    assert desk.acks == [("a", "unknown"), ("b", "unknown"), ("e", "unknown")]
    assert desk.log.kinds == ["claim", "suspend"]


def test_a_decision_is_not_dropped_by_a_worker_whose_state_is_old() -> None:
    owner = Desk()
    owner.turn("t1")
    stale = again(owner)
    stale.member = True
    stale.turn("t1", offset=0)  # takes it over: attempt 2
    stale.suspend("c")
    owner.session.state = None  # it reads anew what it does not know
    owner.session.running = None
    owner.control(approve())
    assert owner.acks == [("a", "applied")]


def test_it_dies_in_the_turn_that_it_blocks_and_nothing_else() -> None:
    """An attempt that ends with its process counts from the decision on: three tries, not more."""
    desk = suspended()
    desk.control(approve())
    for attempt in (3, 4):
        desk = again(desk)
        desk.wake("t1", "c")
        assert desk.started == [("t1", attempt)]
    desk = again(desk)
    desk.wake("t1", "c")
    assert desk.outcomes() == {"t1": "failed"}
    assert '"code":"poison"' in desk.published[0][1]
    assert desk.log.timers == {}
