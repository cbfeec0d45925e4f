"""The session's decisions: what each fact leads to, one story a test."""

from __future__ import annotations

import pytest

from schemas.control import (
    CancelControl,
    DeleteControl,
    ExpireControl,
    OpenControl,
    SteerControl,
    WatchControl,
)
from schemas.entries import Claim, Finish
from tests.support.desk import TERMS, Desk, Log, unknown_agent
from workers import effects as fx

LATER_MS = 2_000_000


def cancel(turn: str, op: str = "c1", user: str = "u") -> CancelControl:
    return CancelControl(op=op, turn=turn, user=user)


def test_a_turn_is_claimed_run_finished_published_and_marked_in_this_order() -> None:
    desk = Desk(auto=False)
    desk.turn("t1")
    assert desk.answer() == ""  # loaded
    assert desk.answer() == "applied"  # claim
    assert desk.started == [("t1", 1)]
    assert desk.marked == []
    desk.finish("answer")
    assert desk.published == []  # nothing is published before FINISH is in
    assert desk.answer() == "applied"
    assert [turn for turn, _ in desk.published] == ["t1"]
    assert desk.marked == []  # nothing is marked before the broker's ack
    desk.acknowledge()
    assert desk.marked == [0]
    assert desk.log.kinds == ["claim", "finish"]
    assert desk.session.idle


def test_the_first_claim_opens_the_session_and_the_second_does_not() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.finish()
    desk.turn("t2")
    desk.finish()
    claims = [entry for entry in desk.log.entries if isinstance(entry, Claim)]
    assert [claim.opens is not None for claim in claims] == [True, False]
    assert desk.log.state().turns == 2
    assert [item.text for item in desk.log.state().history] == ["hi", "hi", "hi", "hi"]


def test_turns_of_a_session_run_one_at_a_time_in_order() -> None:
    desk = Desk()
    for turn in ("t1", "t2", "t3"):
        desk.turn(turn)
    assert desk.started == [("t1", 1)]
    for _ in range(3):
        desk.finish()
    assert [turn for turn, _ in desk.started] == ["t1", "t2", "t3"]
    assert desk.marked == [0, 1, 2]


def test_finish_carries_the_next_claim_when_a_turn_waits() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.turn("t2")
    desk.finish()
    assert desk.log.kinds == ["claim", "finish"]
    merged = desk.log.entries[-1]
    assert isinstance(merged, Finish) and merged.claim is not None and merged.claim.turn == "t2"
    assert desk.started == [("t1", 1), ("t2", 1)]


def test_finish_carries_no_claim_when_others_wait_for_a_slot() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.turn("t2")
    desk.session.allow_merge(False)
    desk.finish()
    assert desk.log.kinds == ["claim", "finish", "claim"]


def test_a_turn_sent_again_while_it_runs_is_marked_with_it() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.turn("t1")
    assert desk.marked == []
    desk.finish()
    assert sorted(desk.marked) == [0, 1]
    assert desk.started == [("t1", 1)]


def test_a_turn_sent_again_while_it_waits_is_marked_with_it() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.turn("t2")
    desk.turn("t2")
    desk.finish()
    assert desk.marked == [0]
    desk.finish()
    assert sorted(desk.marked) == [0, 1, 2]


def test_a_turn_sent_again_after_its_end_gets_its_frame_again_and_no_second_run() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.finish("once")
    desk.turn("t1")
    assert desk.started == [("t1", 1)]
    assert desk.outcomes() == {"t1": "completed"}
    assert len(desk.published) == 2
    assert desk.marked == [0, 1]


def test_a_turn_that_the_state_forgot_is_known_by_the_index() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.finish()
    assert desk.session.state is not None
    desk.session.state = desk.session.state._replace(ended_turns={})
    desk.turn("t1")
    assert desk.started == [("t1", 1)]
    assert [turn for turn, _ in desk.published] == ["t1", "t1"]
    assert desk.marked == [0, 1]


def test_a_forgotten_turn_in_a_merged_claim_does_not_hold_up_the_finish() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.finish()
    desk.turn("t2")
    assert desk.session.state is not None
    desk.session.state = desk.session.state._replace(ended_turns={})
    desk.session._acked.clear()
    desk.turn("t1")
    desk.finish()
    assert desk.outcomes() == {"t1": "completed", "t2": "completed"}
    assert sorted(desk.marked) == [0, 1, 2]
    assert desk.started == [("t1", 1), ("t2", 1)]


@pytest.mark.parametrize("moment", ["waiting", "running", "over"])
def test_other_content_under_a_known_id_is_a_conflict(moment: str) -> None:
    desk = Desk()
    if moment == "waiting":
        desk.turn("t0")
    desk.turn("t1", "one")
    if moment == "over":
        desk.finish()
    offset = desk.turn("t1", "two")
    assert desk.refused == [(offset, "conflict")]
    assert desk.log.known("t1") is (moment != "waiting")


def test_a_turn_for_another_users_session_is_not_found_and_leaves_no_entry() -> None:
    desk = Desk()
    desk.turn("t1", user="alice")
    desk.finish()
    before = list(desk.log.entries)
    offset = desk.turn("t2", user="mallory")
    assert desk.refused == [(offset, "not_found")]
    assert desk.log.entries == before


def test_not_found_is_said_only_of_a_state_read_after_the_record() -> None:
    log = Log()
    desk = Desk(log)
    desk.turn("t1", user="alice")
    desk.finish()
    other = Desk(log)
    other.control(DeleteControl(op="d", user="alice"))
    desk.turn("t2", user="bob")  # the warm state still says alice
    assert desk.refused == []
    assert desk.started[-1] == ("t2", 1)


def test_an_unknown_agent_is_refused_and_leaves_no_entry() -> None:
    desk = Desk(terms=unknown_agent)
    offset = desk.turn("t1")
    assert desk.refused == [(offset, "agent_unknown")]
    assert desk.log.entries == []
    assert desk.session.idle


def test_another_agent_than_the_sessions_is_refused() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.finish()
    offset = desk.turn("t2", agent="other")
    assert desk.refused == [(offset, "bad_request")]


def test_a_history_is_taken_on_the_first_turn_only() -> None:
    desk = Desk()
    desk.turn("t1", history=({"role": "user", "text": "before"},))
    desk.finish()
    assert [item.text for item in desk.log.state().history] == ["before", "hi", "hi"]
    offset = desk.turn("t2", history=({"role": "user", "text": "again"},))
    assert desk.refused == [(offset, "bad_request")]


def test_a_turn_whose_deadline_passed_in_the_queue_never_runs() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.turn("t2", deadline_ms=desk.now_ms + 10)
    desk.now_ms += 20
    desk.finish()
    assert desk.started == [("t1", 1)]
    assert desk.outcomes() == {"t1": "completed", "t2": "failed"}
    assert '"code":"deadline_exceeded"' in desk.published[-1][1]
    assert sorted(desk.marked) == [0, 1]


def test_reject_ends_a_turn_that_meets_a_busy_session_at_once() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.turn("t2", if_busy="reject")
    assert desk.outcomes() == {"t2": "failed"}
    assert '"code":"busy"' in desk.published[-1][1]
    desk.turn("t1", if_busy="reject")  # a re-sent turn never meets itself
    desk.finish()
    assert desk.outcomes() == {"t1": "completed", "t2": "failed"}


@pytest.mark.parametrize("policy", ["interrupt", "rollback"])
def test_interrupt_ends_the_running_and_the_waiting_turns_in_order(policy: str) -> None:
    desk = Desk()
    desk.turn("t1")
    desk.turn("t2")
    desk.turn("t3", if_busy=policy)
    assert desk.stopped == [policy]
    desk.finish("part", "cancelled", by=policy)
    assert desk.started[-1] == ("t3", 1)
    assert desk.outcomes() == {"t1": "cancelled", "t2": "cancelled"}
    desk.finish()
    texts = [item.text for item in desk.log.state().history]
    assert texts == (["hi", "hi"] if policy == "rollback" else ["hi", "part", "hi", "hi"])


class TestCancel:
    def test_of_a_running_turn_stops_it_and_is_answered_after_its_finish(self) -> None:
        desk = Desk()
        desk.turn("t1")
        offset = desk.control(cancel("t1"))
        assert desk.stopped == ["user"]
        assert desk.acks == []
        desk.finish("part", "cancelled", by="user")
        assert desk.acks == [("c1", "applied")]
        assert desk.outcomes() == {"t1": "cancelled"}
        assert sorted(desk.marked) == [0, offset]

    def test_that_loses_against_the_end_is_too_late(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.control(cancel("t1"))
        desk.finish("whole")
        assert desk.acks == [("c1", "too_late")]
        assert desk.outcomes() == {"t1": "completed"}

    def test_of_a_waiting_turn_overtakes_it(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.turn("t2")
        desk.control(cancel("t2"))
        assert desk.outcomes() == {"t2": "cancelled"}
        assert desk.acks == [("c1", "applied")]
        desk.finish()
        assert desk.started == [("t1", 1)]

    def test_of_a_turn_that_is_over_is_answered_with_the_outcome(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.finish()
        offset = desk.control(cancel("t1"))
        assert desk.acks == [("c1", "too_late")]
        assert [turn for turn, _ in desk.published] == ["t1", "t1"]
        assert offset in desk.marked

    def test_before_its_turn_is_held_and_honoured(self) -> None:
        desk = Desk()
        desk.control(cancel("t1"))
        assert desk.acks == [("c1", "held")]
        assert desk.log.kinds == ["control"]
        desk.turn("t1")
        assert desk.started == []
        assert desk.outcomes() == {"t1": "cancelled"}

    def test_before_its_turn_by_another_user_binds_nothing(self) -> None:
        desk = Desk()
        desk.control(cancel("t1", user="mallory"))
        desk.turn("t1")
        assert desk.started == [("t1", 1)]

    def test_of_another_users_turn_answers_as_for_a_missing_one_and_does_nothing(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.control(cancel("t1", user="mallory"))
        assert desk.acks == [("c1", "held")]
        assert desk.stopped == []
        assert desk.log.kinds == ["claim"]

    def test_under_the_id_of_an_op_of_its_owner_is_answered_as_for_a_missing_one_and_shows_nothing(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.control(cancel("t1"))
        desk.finish(outcome="cancelled")
        desk.published.clear()
        desk.acks.clear()
        desk.control(SteerControl(op="c1", user="mallory", turn="t1", text="hm"))
        desk.control(WatchControl(op="c1", user="mallory"))
        desk.control(DeleteControl(op="c1", user="mallory"))
        desk.control(cancel("t1", user="mallory"))
        assert [state for _, state in desk.acks] == ["unknown", "unknown", "unknown", "held"]
        assert desk.published == []

    def test_of_a_forgotten_turn_is_too_late(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.finish()
        assert desk.session.state is not None
        desk.session.state = desk.session.state._replace(ended_turns={})
        desk.control(cancel("t1"))
        assert desk.acks == [("c1", "too_late")]

    def test_twice_appends_once(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.turn("t2")
        desk.control(cancel("t2"))
        desk.control(cancel("t2"))
        assert desk.log.kinds.count("settle") == 1
        assert desk.acks == [("c1", "applied"), ("c1", "applied")]
        assert desk.outcomes() == {"t2": "cancelled"}


class TestDelete:
    def test_ends_the_running_turn_wipes_the_content_and_cancels_what_waits(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.turn("t2")
        offset = desk.control(DeleteControl(op="d", user="u"))
        assert desk.abandoned == 1
        assert desk.outcomes() == {"t1": "cancelled", "t2": "cancelled"}
        assert desk.acks == [("d", "applied")]
        assert desk.log.wiped == 2
        assert sorted(desk.marked) == [0, 1, offset]
        assert desk.session.idle

    def test_answers_a_cancel_of_the_turn_that_it_ends(self) -> None:
        desk = Desk()
        first = desk.turn("t1")
        second = desk.control(cancel("t1"))
        third = desk.control(DeleteControl(op="d", user="u"))
        assert desk.acks == [("c1", "applied"), ("d", "applied")]
        assert sorted(desk.marked) == [first, second, third]
        assert desk.outcomes() == {"t1": "cancelled"}

    def test_is_marked_only_after_the_content_is_gone(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.finish()
        desk.auto = False
        offset = desk.control(DeleteControl(op="d", user="u"))
        order = []
        while desk.questions:
            order.append(type(desk.questions[0]).__name__)
            assert offset not in desk.marked
            desk.answer()
            desk.acknowledge()
        assert order == ["Prove", "Append", "Wipe"]
        assert offset in desk.marked

    def test_waits_for_frames_that_nobody_saw_acknowledged(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.auto = False
        desk.finish()
        desk.answer()  # finish is in, its frame is out but not acknowledged
        desk.control(DeleteControl(op="d", user="u"))
        assert desk.questions == []
        desk.acknowledge()
        assert isinstance(desk.questions[0], fx.Prove)

    def test_publishes_first_what_a_dead_owner_may_have_left_unpublished(self) -> None:
        log = Log()
        dead = Desk(log, auto=False)
        dead.turn("t1")
        dead.answer()
        dead.answer()
        dead.finish("the answer")
        dead.answer()  # finish is in; the worker dies before its frame is out
        owner = Desk(log)
        owner.control(DeleteControl(op="d", user="u"))
        assert owner.outcomes() == {"t1": "completed"}
        assert owner.acks == [("d", "applied")]

    def test_of_nothing_is_unknown_after_a_look(self) -> None:
        desk = Desk()
        desk.control(DeleteControl(op="d", user="u"))
        assert desk.acks == [("d", "unknown")]
        assert desk.log.entries == []

    def test_by_another_user_is_unknown(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.finish()
        desk.control(DeleteControl(op="d", user="mallory"))
        assert desk.acks == [("d", "unknown")]
        assert "close" not in desk.log.kinds

    def test_again_appends_nothing(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.finish()
        desk.control(DeleteControl(op="d", user="u"))
        again = desk.control(DeleteControl(op="d", user="u"))
        assert desk.log.kinds.count("close") == 1
        assert desk.acks == [("d", "applied"), ("d", "applied")]
        assert again in desk.marked

    def test_leaves_a_session_that_starts_afresh(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.finish()
        desk.control(DeleteControl(op="d", user="u"))
        desk.turn("t2", user="somebody-else")
        desk.finish("new")
        assert [item.text for item in desk.log.state().history] == ["hi", "new"]
        assert desk.log.state().turns == 1

    def test_whoever_folds_a_close_with_content_left_unsets_it_first(self) -> None:
        log = Log()
        first = Desk(log, auto=False)
        first.turn("t1")
        first.answer()
        first.answer()
        first.control(DeleteControl(op="d", user="u"))
        first.answer()  # proved
        first.answer()  # close is in; the worker dies before the wipe
        assert log.wiped == 0
        second = Desk(log)
        second.turn("t2")
        assert log.wiped == 2
        assert second.started == [("t2", 1)]


class TestExpiry:
    def test_a_turn_that_meets_an_expired_session_starts_afresh(self) -> None:
        desk = Desk()
        desk.turn("t1", "old")
        desk.finish()
        desk.now_ms += LATER_MS
        desk.turn("t2", "new")
        desk.finish("answer")
        assert "close" in desk.log.kinds
        assert [item.text for item in desk.log.state().history] == ["new", "answer"]

    def test_or_fails_with_session_expired_as_the_agent_says(self) -> None:
        desk = Desk(terms=lambda _: TERMS._replace(fresh_when_expired=False))
        desk.turn("t1")
        desk.finish()
        desk.now_ms += LATER_MS
        desk.turn("t2")
        assert desk.outcomes()["t2"] == "failed"
        assert '"code":"session_expired"' in desk.published[-1][1]
        desk.control(OpenControl(op="o", user="u"))
        desk.turn("t3")
        assert desk.started[-1] == ("t3", 1)

    def test_the_sweeps_op_closes_an_idle_session_and_leaves_a_lively_one(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.finish()
        desk.control(ExpireControl(op="e1", user="u"))
        assert desk.acks == [("e1", "too_late")]
        desk.now_ms += LATER_MS
        desk.control(ExpireControl(op="e2", user="u"))
        assert desk.acks[-1] == ("e2", "applied")
        assert desk.log.state().opened is None


class TestOpen:
    def test_creates_the_session_ahead(self) -> None:
        desk = Desk()
        desk.control(OpenControl(op="o", user="u"))
        assert desk.acks == [("o", "applied")]
        desk.turn("t1")
        assert desk.log.kinds == ["open", "claim"]

    def test_of_a_session_that_is_there_says_exists(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.control(OpenControl(op="o", user="u"))
        assert desk.acks == [("o", "exists")]

    def test_of_another_users_session_or_an_unknown_agent_is_refused(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.control(OpenControl(op="o", user="mallory"))
        other = Desk(terms=unknown_agent)
        other.control(OpenControl(op="o", user="u"))
        assert desk.acks == other.acks == [("o", "refused")]


class TestTakeOver:
    def test_an_open_turn_that_runs_nowhere_is_resumed_with_the_next_attempt(self) -> None:
        log = Log()
        dead = Desk(log)
        dead.turn("t1")
        desk = Desk(log)
        desk.turn("t1", offset=0)
        assert desk.started == [("t1", 2)]
        desk.finish()
        assert desk.outcomes() == {"t1": "completed"}

    def test_comes_before_anything_else_whatever_led_there(self) -> None:
        log = Log()
        Desk(log).turn("t1")
        desk = Desk(log)
        desk.turn("t2", offset=7)
        assert desk.started == [("t1", 2)]
        desk.finish()
        assert [turn for turn, _ in desk.started] == ["t1", "t2"]

    def test_needs_a_proof_of_membership(self) -> None:
        log = Log()
        Desk(log).turn("t1")
        desk = Desk(log)
        desk.member = False
        desk.turn("t1", offset=0)
        assert desk.given_up
        assert desk.started == []
        assert log.kinds == ["claim"]

    def test_after_three_tries_without_a_step_the_turn_is_poison_and_the_session_goes_on(self) -> None:
        log = Log()
        for offset in range(3):
            Desk(log).turn("t1", offset=0)
            assert offset + 1 == log.kinds.count("claim")
        desk = Desk(log)
        desk.turn("t1", offset=0)
        desk.turn("t2", offset=1)
        assert '"code":"poison"' in desk.published[0][1]
        assert desk.started == [("t2", 1)]

    def test_a_release_does_not_count_as_a_try(self) -> None:
        log = Log()
        for _ in range(5):
            desk = Desk(log)
            desk.turn("t1", offset=0)
            release = desk.session.release_entry(desk.now_ms)
            assert release is not None
            log.insert(release)
        last = Desk(log)
        last.turn("t1", offset=0)
        assert last.started == [("t1", 6)]

    def test_a_release_forgets_no_try_that_came_before(self) -> None:
        log = Log()
        for number in range(5):
            desk = Desk(log)
            desk.turn("t1", offset=0)
            if number % 2:
                release = desk.session.release_entry(desk.now_ms)
                assert release is not None
                log.insert(release)
        last = Desk(log)
        last.turn("t1", offset=0)
        assert last.started == []
        assert '"code":"poison"' in last.published[0][1]

    def test_a_cancel_of_an_open_turn_that_runs_nowhere_keeps_what_was_shown_and_every_call_has_a_result(self) -> None:
        log = Log()
        dead = Desk(log)
        dead.turn("t1")
        dead.step(
            "model", text="I pay.", result={"finish": "stop", "chars": 6, "calls": [{"call": "c1", "name": "pay"}]}
        )
        dead.intend("c1")
        desk = Desk(log)
        desk.control(cancel("t1"))
        assert [(item.role, item.text, item.call) for item in log.state().history] == [
            ("user", "hi", None),
            ("assistant", "I pay.", None),
            ("tool", "tool 'pay', call c1: whether it took effect is unknown; it was not called again", "c1"),
        ]
        assert '"text":"I pay."' in desk.published[0][1]

    def test_an_intent_is_no_progress_so_a_tool_that_kills_its_process_is_poison(self) -> None:
        log = Log()
        for _ in range(3):
            desk = Desk(log)
            desk.turn("t1", offset=0)
            if not log.state().open.intents:  # type: ignore[union-attr]
                desk.intend("c1")
        last = Desk(log)
        last.turn("t1", offset=0)
        assert '"code":"poison"' in last.published[0][1]

    def test_a_cancel_of_an_open_turn_that_runs_nowhere_ends_it_without_a_run(self) -> None:
        log = Log()
        Desk(log).turn("t1")
        desk = Desk(log)
        desk.control(cancel("t1"))
        assert desk.started == []
        assert desk.outcomes() == {"t1": "cancelled"}
        assert desk.acks == [("c1", "applied")]


def test_a_frame_that_a_dead_owner_left_comes_before_anything_later() -> None:
    log = Log()
    dead = Desk(log, auto=False)
    dead.turn("t1")
    dead.answer()
    dead.answer()
    dead.finish("one")
    dead.answer()  # finish is in; the worker dies before its frame is out
    owner = Desk(log, auto=False)
    owner.turn("t1", offset=0)
    owner.turn("t2", offset=1)
    while owner.questions:
        owner.answer()
    assert [turn for turn, _ in owner.published] == ["t1"]
    assert owner.started == []
    owner.acknowledge()
    while owner.questions:
        owner.answer()
    assert owner.started == [("t2", 1)]


def test_a_command_does_not_overtake_the_frame_that_a_dead_owner_left() -> None:
    log = Log()
    dead = Desk(log, auto=False)
    dead.turn("t1", offset=0)
    dead.turn("t2", offset=1)
    while dead.questions:
        dead.answer()
    dead.finish("one")
    dead.answer()  # finish is in and t2 is claimed; the worker dies before the frame is out
    assert dead.started == [("t1", 1), ("t2", 1)]
    owner = Desk(log, auto=False)
    owner.control(CancelControl(op="c1", tenant="default", user="u", turn="t2"), offset=9)
    while owner.questions:
        owner.answer()
    assert [turn for turn, _ in owner.published] == ["t1"]
    owner.acknowledge()
    while owner.questions:
        owner.answer()
    assert [turn for turn, _ in owner.published] == ["t1", "t2"]
    owner.acknowledge()
    assert owner.acks == [("c1", "applied")]
    assert owner.marked == [9]


class TestIntents:
    def test_intents_and_steps_of_one_attempt_are_appended_in_their_order_one_at_a_time(self) -> None:
        desk = Desk(auto=False)
        desk.turn("t1")
        while desk.questions:
            desk.answer()
        desk.intend("c1")
        desk.step("tool")
        desk.intend("c2")
        assert len(desk.questions) == 1
        while desk.questions:
            desk.answer()
        assert desk.log.kinds == ["claim", "intent", "step", "intent"]
        assert [intent.call for intent in desk.log.state().open.intents] == ["c2"]  # type: ignore[union-attr]

    def test_the_intent_of_a_loser_is_never_written(self) -> None:
        log = Log()
        zombie = Desk(log)
        zombie.turn("t1")
        owner = Desk(log)
        owner.turn("t1", offset=0)
        zombie.intend("c1")
        assert zombie.abandoned == 1
        assert set(log.kinds) == {"claim"}

    def test_an_intent_that_waits_when_its_turn_is_over_is_not_written(self) -> None:
        desk = Desk(auto=False)
        desk.turn("t1")
        while desk.questions:
            desk.answer()
        desk.step("step")
        desk.intend("c1")
        desk.finish()
        while desk.questions:
            desk.answer()
        assert desk.log.kinds == ["claim", "step", "finish"]


class TestTwoWorkers:
    def test_the_loser_of_a_finish_publishes_nothing_of_its_own(self) -> None:
        log = Log()
        zombie = Desk(log)
        zombie.turn("t1")
        owner = Desk(log)
        owner.turn("t1", offset=0)
        owner.finish("mine")
        zombie.finish("yours")
        assert zombie.abandoned == 1
        assert {frame for _, frame in zombie.published} == {frame for _, frame in owner.published}
        assert zombie.marked == [0]

    def test_a_collision_marks_nothing_and_without_proof_gives_the_partition_up(self) -> None:
        log = Log()
        zombie = Desk(log)
        zombie.turn("t1")
        owner = Desk(log)
        owner.turn("t1", offset=0)
        zombie.member = False
        zombie.finish("late")
        assert zombie.given_up
        assert zombie.marked == []
        assert zombie.published == []
        owner.finish("right")
        assert owner.outcomes() == {"t1": "completed"}

    def test_both_run_the_same_turns_and_each_turn_has_one_outcome(self) -> None:
        log = Log()
        a, b = Desk(log), Desk(log)
        for n in range(6):
            for desk in (a, b):
                desk.turn(f"t{n}", offset=n)
            for desk in (a, b):
                if desk.session.running is not None:
                    desk.finish(f"from {id(desk)}")
        while b.session.running is not None:
            b.finish()
        finishes = [entry for entry in log.entries if isinstance(entry, Finish)]
        assert [entry.turn for entry in finishes] == [f"t{n}" for n in range(6)]
        published = set(a.published) | set(b.published)  # both may prove membership here: what matters is agreement
        assert len(published) == 6
        assert {turn for turn, _ in published} == {f"t{n}" for n in range(6)}


def test_watch_adds_a_place_for_frames_until_the_turn_ends() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.control(WatchControl(op="w", user="u"))
    assert desk.acks == [("w", "applied")]
    desk.control(WatchControl(op="w2", user="mallory"))
    assert desk.acks[-1] == ("w2", "unknown")


def test_who_watched_a_session_that_is_gone_does_not_watch_the_next_one() -> None:
    desk = Desk()
    desk.turn("t1", user="mallory", reply_to="0:a")
    desk.control(WatchControl(op="w", user="mallory"), reply_to="1:b")
    desk.control(DeleteControl(op="d", user="mallory"))
    assert desk.to["t1"] == {"0:a", "1:b"}
    desk.turn("t2", user="u", reply_to="0:a")
    desk.finish()
    assert desk.to["t2"] == {"0:a"}


def test_an_idle_session_asks_for_nothing() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.finish()
    assert desk.session.idle
    assert desk.slots == 1
    assert desk.session.waiting == 0


def test_a_frame_that_a_dead_owner_left_comes_before_a_take_over_whose_record_came_first() -> None:
    log = Log()
    dead = Desk(log, auto=False)
    for offset in range(3):
        dead.turn(f"t{offset}", offset=offset)
    dead.answer()
    dead.answer()
    for _ in range(2):  # t0 and t1 end, t2 begins; the worker dies before their frames are out
        dead.finish()
        dead.answer()
    assert log.kinds == ["claim", "finish", "finish"]
    owner = Desk(log)
    owner.turn("t0", offset=0)
    owner.finish()
    assert list(owner.outcomes()) == ["t0", "t1", "t2"]


class TestStaleOwner:
    """A worker that believes it owns the session still, with a state that others have left behind."""

    def stale(self) -> tuple[Desk, Desk]:
        log = Log()
        stale, other = Desk(log, auto=False), Desk(log)
        stale.turn("t1", offset=1)
        stale.answer()  # Load: nothing there, so it is going to claim t1 as version 1
        other.turn("t1", offset=1)
        return stale, other

    def answer_all(self, desk: Desk) -> None:
        while desk.questions or desk.unacked:
            if desk.questions:
                desk.answer()
            desk.acknowledge()

    def test_a_turn_that_somebody_else_claimed_is_ended_by_an_interrupt_not_settled(self) -> None:
        stale, _ = self.stale()
        stale.turn("t2", offset=2, if_busy="interrupt")
        self.answer_all(stale)
        assert stale.session.running == "t2"
        stale.finish()
        self.answer_all(stale)
        assert "settle" not in stale.log.kinds
        assert stale.outcomes() == {"t1": "cancelled", "t2": "completed"}
        assert sorted(stale.marked) == [1, 2]

    def test_a_cancel_of_a_turn_that_somebody_else_claimed_ends_the_open_turn(self) -> None:
        stale, _ = self.stale()
        stale.control(CancelControl(op="c1", tenant="default", user="u", turn="t1"), offset=9)
        self.answer_all(stale)
        assert stale.outcomes() == {"t1": "cancelled"}
        assert stale.acks == [("c1", "applied")]
        assert sorted(stale.marked) == [1, 9]

    def test_a_cancel_of_a_turn_that_began_elsewhere_since_the_state_was_read_ends_it(self) -> None:
        log = Log()
        other, owner = Desk(log), Desk(log, auto=False)
        other.turn("t1", offset=1)
        other.turn("t2", offset=2)
        owner.control(CancelControl(op="c1", tenant="default", user="u", turn="t2"), offset=9)
        owner.answer()  # the state: t1 is open, t2 has not begun
        other.finish()  # and begins
        self.answer_all(owner)
        assert owner.acks == [("c1", "applied")]
        assert owner.outcomes()["t2"] == "cancelled"

    def test_a_cancel_that_was_held_holds_although_the_turn_would_be_rejected(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.control(CancelControl(op="c1", tenant="default", user="u", turn="t2"))
        assert desk.acks == [("c1", "held")]
        desk.turn("t2", if_busy="reject")
        desk.finish()
        assert desk.outcomes() == {"t1": "completed", "t2": "cancelled"}

    def test_turns_that_somebody_else_ended_are_published_in_their_order_before_anything_later(self) -> None:
        stale, other = self.stale()
        other.finish("one")
        other.turn("t2", offset=2)
        other.finish("two")
        other.turn("t3", offset=3)  # open: it is taken over
        for offset, turn in enumerate(("t2", "t3"), 2):
            stale.turn(turn, offset=offset)
        stale.control(CancelControl(op="c1", tenant="default", user="u", turn="t2"), offset=9)
        self.answer_all(stale)
        stale.finish("three")
        self.answer_all(stale)
        assert list(stale.outcomes()) == ["t1", "t2", "t3"]
        assert stale.acks == [("c1", "too_late")]
        assert sorted(stale.marked) == [1, 2, 3, 9]

    def test_a_cancel_of_a_waiting_copy_is_answered_although_the_state_has_forgotten_its_turn(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.finish()
        desk.turn("t2")
        assert desk.session.state is not None
        desk.session.state = desk.session.state._replace(ended_turns={})
        desk.turn("t1", offset=7)
        desk.control(CancelControl(op="c1", tenant="default", user="u", turn="t1"), offset=9)
        assert desk.acks == [("c1", "too_late")]
        desk.finish()
        assert desk.outcomes() == {"t1": "completed", "t2": "completed"}
        assert sorted(desk.marked) == [0, 1, 7, 9]


class TestStrangers:
    """Records of two users for one session id that is not open yet: the first opens it, the other finds none."""

    def test_a_turn_that_came_before_the_session_was_opened_never_runs_in_it(self) -> None:
        desk = Desk()
        desk.auto = False
        desk.turn("t1", user="u")
        desk.turn("t2", user="eve")
        desk.turn("t3", user="u")
        desk.auto = True
        desk.answer()
        desk.finish()
        desk.finish()
        assert [turn for turn, _ in desk.started] == ["t1", "t3"]
        assert desk.refused == [(1, "not_found")]
        assert [item.turn for item in desk.log.state().history] == ["t1", "t1", "t3", "t3"]
        assert sorted(desk.marked) == [0, 1, 2]

    @pytest.mark.parametrize("policy", ["reject", "interrupt", "rollback", "steer"])
    def test_its_policy_ends_nobody_elses_turn(self, policy: str) -> None:
        desk = Desk(auto=False)
        desk.turn("t1", user="u")
        desk.turn("t2", user="eve", if_busy=policy)
        desk.auto = True
        desk.answer()
        desk.finish()
        assert desk.outcomes() == {"t1": "completed"}
        assert desk.refused == [(1, "not_found")]

    def test_its_cancel_ends_nothing_and_says_no_more_than_of_a_missing_turn(self) -> None:
        desk = Desk(auto=False)
        desk.turn("t1", user="u")
        desk.control(cancel("t1", user="eve"))
        desk.auto = True
        desk.answer()
        assert desk.acks == [("c1", "held")]
        assert desk.session.running == "t1"
        desk.control(cancel("t1", user="eve"))
        desk.finish()
        before = len(desk.published)
        desk.control(cancel("t1", user="eve"))
        assert desk.acks == [("c1", "held")] * 3
        assert len(desk.published) == before
        assert desk.outcomes() == {"t1": "completed"}

    def test_a_turn_that_was_settled_before_somebody_else_opened_it_keeps_its_end(self) -> None:
        log = Log()
        dead = Desk(log, auto=False)
        dead.turn("t1", user="eve")
        dead.control(cancel("t1", user="eve"))
        while dead.questions:
            dead.answer()
        assert log.kinds == ["settle"]  # and its frame is not out
        owner = Desk(log)
        owner.turn("t2", user="u", offset=5)
        owner.turn("t1", user="eve", offset=0)
        assert owner.refused == []
        assert owner.outcomes()["t1"] == "cancelled"


def test_an_interrupt_leaves_a_strangers_turn_that_came_before_the_session_was_opened_to_be_refused() -> None:
    desk = Desk(auto=False)
    desk.turn("t1")
    desk.turn("x1", user="mallory")
    desk.auto = True
    desk.answer()  # nothing was there: both are taken in, and the claim of t1 opens the session
    desk.turn("t2", if_busy="interrupt")
    desk.finish(outcome="cancelled")
    desk.finish()
    assert desk.refused == [(1, "not_found")]
    assert "settle" not in desk.log.kinds


def test_a_strangers_op_from_before_the_session_was_opened_does_not_stand_for_its_owners() -> None:
    desk = Desk()
    desk.control(cancel("t1", op="same", user="mallory"))
    assert desk.acks == [("same", "held")]
    desk.turn("t1", user="u")
    assert desk.session.running == "t1"
    desk.control(cancel("t1", op="same", user="u"))
    assert desk.stopped == ["user"]
    desk.finish(outcome="cancelled", by="user")
    assert desk.acks[-1] == ("same", "applied")
    assert desk.outcomes() == {"t1": "cancelled"}
