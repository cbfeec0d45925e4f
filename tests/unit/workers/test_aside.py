"""A turn that waits for a decision stands aside where its agent says so: later ones are answered first."""

import pytest

from journal.fold import FoldError, fold
from journal.state import OpenTurn, State
from schemas.codes import Code
from schemas.control import ApproveControl, CancelControl, DeleteControl, SteerControl
from schemas.entries import Claim, Close, Finish, Suspend
from tests.support.desk import TERMS, Desk
from workers.canonical import MAX_KEPT_BYTES
from workers.holdings import AHEAD_TURNS, ASIDE_LIMIT

HOUR_MS = 3_600_000


def desk_of(*turns: str) -> Desk:
    """t1 stands aside, with a question about `c`; `turns` came after it."""
    desk = Desk(terms=lambda _: TERMS._replace(stands_aside=True, idle_ms=10 * HOUR_MS))
    desk.turn("t1", reply_to="3:g", deadline_ms=desk.now_ms + 10 * HOUR_MS)
    desk.suspend("c")
    for turn in turns:
        desk.turn(turn)
    return desk


def again(desk: Desk) -> Desk:
    """The next owner, which knows nothing but the journal."""
    other = Desk(desk.log, terms=lambda _: TERMS._replace(stands_aside=True, idle_ms=10 * HOUR_MS))
    other.now_ms = desk.now_ms
    return other


def approve(turn: str = "t1", call: str = "c", op: str = "a") -> ApproveControl:
    return ApproveControl(op=op, turn=turn, call=call, decision="allow", user="u")


def said(state: State) -> list[str]:
    return [item.id for item in state.history]


def stands(desk: Desk) -> list[str]:
    return [turn.turn for turn in desk.log.state().aside]


def sees(turn: OpenTurn | None, state: State) -> list[str]:
    assert turn is not None
    return [item.id for item in (turn.seen.history if turn.seen is not None else state.history)]


def test_later_turns_are_answered_and_its_messages_come_where_it_ends() -> None:
    desk = desk_of("t2", "t3")
    assert (desk.requests, stands(desk), desk.marked) == ([("t1", "c")], ["t1"], [0])
    assert desk.session.running == "t2"
    desk.finish("two")
    desk.finish("three")
    assert desk.log.kinds == ["claim", "suspend", "claim", "finish", "finish"]
    assert desk.session.idle
    op = desk.control(approve())
    assert desk.started[-1] == ("t1", 2)
    assert op not in desk.marked
    desk.finish("one")
    assert said(desk.log.state()) == ["t2~0", "t2~1", "t3~0", "t3~1", "t1~0", "t1~1"]
    assert [turn for turn, _ in desk.published] == ["t2", "t3", "t1"]
    assert desk.to["t1"] == {"3:g"}
    assert op in desk.marked
    assert desk.session.idle


def test_where_the_agent_says_nothing_later_turns_wait() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.suspend("c")
    desk.turn("t2")
    assert desk.log.kinds == ["claim", "suspend", "park"]
    assert not desk.log.state().aside


def test_it_is_resumed_as_soon_as_no_other_turn_runs_and_before_all_that_waits() -> None:
    desk = desk_of("t2", "t3")
    desk.control(approve())
    assert desk.acks == [("a", "applied")]
    assert desk.session.running == "t2"
    desk.finish()
    assert desk.started[-1] == ("t1", 2)
    desk.finish()
    assert desk.started[-1] == ("t3", 1)


def test_its_attempts_see_the_conversation_and_what_was_kept_as_the_first_one_did() -> None:
    desk = Desk(terms=lambda _: TERMS._replace(stands_aside=True))
    desk.turn("t0")
    desk.finish(kept={"mood": "calm"})
    desk.turn("t1")
    desk.suspend("c")
    desk.turn("t2")
    desk.finish(kept={"mood": "wild", "more": 1})
    desk.control(approve())
    now = desk.log.state().open
    assert now is not None and now.seen is not None
    assert sees(now, desk.log.state()) == ["t0~0", "t0~1"]
    assert now.seen.kept == {"mood": "calm"}
    desk.suspend("d")
    desk.turn("t3")
    desk.finish()
    other = again(desk)
    other.wake("t1", "d")
    assert sees(other.log.state().open, other.log.state()) == ["t0~0", "t0~1"]
    other.finish(kept={"mood": "glad"})
    assert other.log.state().kept == {"mood": "glad", "more": 1}


def test_an_attempt_that_is_taken_over_sees_nothing_of_what_ended_beside_it() -> None:
    desk = desk_of("t2")
    desk.control(CancelControl(op="x", turn="t1", user="u"))
    assert desk.outcomes() == {"t1": "cancelled"}
    assert desk.acks == [("x", "applied")]
    assert desk.session.running == "t2"  # it runs on
    other = again(desk)
    other.turn("t2", offset=1)
    assert other.started == [("t2", 2)]
    assert said(other.log.state()) == ["t1~0"]
    assert sees(other.log.state().open, other.log.state()) == []


def test_nobody_decides_in_time_so_it_is_denied_whatever_runs() -> None:
    desk = desk_of("t2")
    desk.wake("t1", "c")
    assert desk.decided == [("deny", "deadline")]
    assert desk.session.running == "t2"
    desk.finish()
    assert desk.started[-1] == ("t1", 2)
    assert list(desk.log.timers) == [("t1", "c")]  # not before the turn is over and acknowledged
    desk.finish()
    assert desk.log.timers == {}


def test_a_later_turn_that_is_suspended_stands_aside_too_and_each_has_its_decision() -> None:
    desk = desk_of("t2")
    desk.suspend("d")
    assert stands(desk) == ["t1", "t2"]
    assert desk.requests == [("t1", "c"), ("t2", "d")]
    desk.control(approve("t2", "d", "b"))
    desk.finish()
    assert stands(desk) == ["t1"]
    desk.control(approve())
    desk.finish()
    assert list(desk.outcomes()) == ["t2", "t1"]


def test_two_turns_that_ask_about_calls_of_one_name_are_both_asked_about() -> None:
    desk = desk_of("t2")
    desk.suspend("c")
    assert desk.requests == [("t1", "c"), ("t2", "c")]
    desk.control(approve("t2"))
    assert desk.started[-1] == ("t2", 2)


def test_as_much_stands_aside_as_may_and_the_rest_waits() -> None:
    desk = desk_of()
    for number in range(2, ASIDE_LIMIT + 1):
        desk.turn(f"t{number}")
        desk.suspend(f"c{number}")
    desk.turn("late", deadline_ms=desk.now_ms + 10 * HOUR_MS)
    assert desk.log.state().parked_turn("late") is not None
    assert desk.session.idle
    desk.control(approve())
    desk.finish()
    assert desk.started[-1] == ("late", 1)


def test_only_so_many_turns_are_answered_first() -> None:
    desk = desk_of()
    for number in range(2, AHEAD_TURNS + 2):
        desk.turn(f"t{number}")
        desk.finish()
    desk.turn("late", deadline_ms=desk.now_ms + 10 * HOUR_MS)
    assert desk.log.state().parked_turn("late") is not None


def test_a_session_in_which_a_turn_stands_aside_does_not_expire() -> None:
    desk = desk_of()
    desk.now_ms += 11 * HOUR_MS
    desk.turn("t2")
    assert desk.started[-1] == ("t2", 1)
    assert not desk.log.state().at_rest


def test_a_delete_ends_it_with_all_the_others() -> None:
    desk = desk_of("t2")
    desk.control(DeleteControl(op="x", user="u"))
    entry = desk.log.entries[-1]
    assert isinstance(entry, Close) and entry.ended == ("t2", "t1")
    assert desk.to["t1"] == {"3:g"}
    assert not desk.log.state().aside


@pytest.mark.parametrize("policy", ["interrupt", "rollback"])
def test_what_ends_the_running_turn_leaves_it_alone(policy: str) -> None:
    desk = desk_of("t2")
    desk.turn("t3", if_busy=policy)
    assert desk.stopped == [policy]
    desk.finish(outcome="cancelled", by=policy)
    assert (stands(desk), desk.session.running) == (["t1"], "t3")


def test_a_turn_that_wants_nothing_to_run_is_taken_while_one_only_stands_aside() -> None:
    desk = desk_of()
    desk.turn("t2", if_busy="reject")
    assert desk.started[-1] == ("t2", 1)


def test_nothing_can_be_said_to_it() -> None:
    desk = desk_of("t2")
    desk.control(SteerControl(op="x", turn="t1", user="u", text="more"))
    assert desk.acks == [("x", "refused")]


def test_a_copy_of_it_waits_for_its_end() -> None:
    desk = desk_of("t2")
    desk.turn("t1", deadline_ms=desk.now_ms + 10 * HOUR_MS)
    assert desk.log.kinds == ["claim", "suspend", "claim"]
    assert [mail.id for mail in desk.session.mail] == []


def test_what_it_keeps_is_weighed_with_what_was_kept_meanwhile() -> None:
    desk = desk_of("t2")
    half = "x" * (MAX_KEPT_BYTES // 2)
    desk.finish(kept={"a": half})
    desk.control(approve())
    desk.finish(kept={"b": half})
    entry = desk.log.entries[-1]
    assert isinstance(entry, Finish) and (entry.outcome, entry.kept) == ("failed", None)
    assert str(Code.TOO_LARGE.value) in entry.frames[0]


def test_the_frames_of_earlier_ends_go_first_whichever_record_comes_first() -> None:
    desk = desk_of("t2")
    desk.finish()
    desk.control(approve())
    desk.finish()
    other = again(desk)
    other.turn("t1", offset=0, reply_to="3:g", deadline_ms=desk.now_ms + 10 * HOUR_MS)
    assert [turn for turn, _ in other.published] == ["t2", "t1"]


def test_one_that_is_stopped_while_it_asks_ends_as_it_was_told() -> None:
    desk = Desk(terms=lambda _: TERMS._replace(stands_aside=True), auto=False)
    desk.turn("t1")
    while desk.session.asked is not None:
        desk.answer()
    desk.suspend("c")
    desk.answer()  # the timer
    desk.control(CancelControl(op="x", turn="t1", user="u"))
    desk.finish(outcome="failed", code=Code.AGENT_ERROR)
    while desk.questions:
        desk.answer()
    assert desk.log.kinds == ["claim", "suspend", "finish"]
    assert not desk.log.state().begun
    assert not desk.session.running


def test_a_journal_that_goes_on_with_it_before_a_decision_is_refused() -> None:
    desk = desk_of()
    state = desk.log.state()
    claim = desk.log.entries[0]
    assert isinstance(claim, Claim)
    with pytest.raises(FoldError, match="awaits a decision"):
        fold(state, state.version + 1, claim.model_copy(update={"attempt": 2, "input": None, "opens": None}))


def test_a_journal_that_ends_another_attempt_of_it_is_refused() -> None:
    desk = desk_of("t2")
    state = desk.log.state()
    entry = Finish(at_ms=1, turn="t1", attempt=7, outcome="cancelled")
    with pytest.raises(FoldError, match="which stands aside"):
        fold(state, state.version + 1, entry)


def test_a_journal_of_before_says_nothing_of_it() -> None:
    entry = Suspend(at_ms=1, turn="t1", attempt=1, call="c", deadline_ms=2)
    assert "aside" not in entry.model_dump_json(exclude_defaults=True)
