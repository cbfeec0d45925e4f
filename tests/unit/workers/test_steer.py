"""A turn or a command that steers: joins the running turn, ends with it, is never lost and never run twice."""

from __future__ import annotations

import json

import pytest

from schemas.control import CancelControl, DeleteControl, SteerControl
from schemas.entries import Finish
from schemas.turn import TurnInput
from tests.support.desk import Desk, Log


def steer(turn: str, op: str = "x", user: str = "u") -> SteerControl:
    return SteerControl(op=op, turn=turn, text="more", user=user)


def last_finish(log: Log) -> Finish:
    return next(entry for entry in reversed(log.entries) if isinstance(entry, Finish))


class TestTurn:
    def test_joins_the_running_turn_and_ends_with_it(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.turn("t2", "and this", if_busy="steer")
        assert desk.log.kinds == ["claim", "control"]
        assert desk.steered == ["~t2"]
        assert desk.marked == []
        desk.finish("both")
        assert desk.log.kinds == ["claim", "control", "finish"]
        frames = {turn: json.loads(frame) for turn, frame in desk.published}
        assert (frames["t1"]["type"], frames["t1"]["text"]) == ("completed", "both")
        assert (frames["t2"]["type"], frames["t2"]["text"], frames["t2"]["into"]) == ("completed", "", "t1")
        assert sorted(desk.marked) == [0, 1]
        assert desk.session.idle

    def test_overtakes_what_waits(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.turn("t2")
        desk.turn("t3", if_busy="steer")
        assert desk.steered == ["~t3"]
        desk.finish()
        assert desk.session.running == "t2"
        assert list(desk.outcomes()) == ["t1", "t3"]

    def test_is_a_turn_like_others_where_nothing_runs(self) -> None:
        desk = Desk()
        desk.turn("t1", if_busy="steer")
        assert desk.started == [("t1", 1)]
        assert desk.steered == []

    @pytest.mark.parametrize("what", ["sealed", "stopping", "options"])
    def test_waits_where_it_cannot_join(self, what: str) -> None:
        desk = Desk()
        desk.turn("t1")
        if what == "sealed":
            assert desk.session.seal()
        elif what == "stopping":
            desk.control(CancelControl(op="c", turn="t1", user="u"))
        desk.turn("t2", if_busy="steer", options={"temperature": 1} if what == "options" else None)
        assert desk.steered == []
        assert desk.session.waiting == 1
        desk.finish(outcome="cancelled" if what == "stopping" else "completed")
        assert desk.session.running == "t2"

    def test_the_agent_is_not_done_while_something_is_about_to_join(self) -> None:
        desk = Desk(auto=False)
        desk.turn("t1")
        desk.answer()
        desk.answer()
        desk.turn("t2", if_busy="steer")
        assert not desk.session.seal()
        desk.answer()
        assert desk.session.seal()
        desk.turn("t3", if_busy="steer")
        desk.finish()
        desk.answer()
        desk.acknowledge()
        assert list(desk.outcomes()) == ["t1", "t2"]
        assert desk.session.waiting == 1

    def test_what_was_said_to_a_turn_that_fails_stands_in_the_history(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.turn("t2", "and this", if_busy="steer")
        desk.finish("part", "failed")
        state = desk.log.state()
        assert [(item.id, item.text) for item in state.history] == [
            ("t1~0", "hi"),
            ("t1~1", "part"),
            ("t2~0", "and this"),
        ]

    def test_a_copy_waits_for_the_same_end_and_other_content_is_a_conflict(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.turn("t2", "this", if_busy="steer")
        desk.turn("t2", "this", if_busy="steer")
        desk.turn("t2", "that", if_busy="steer")
        assert desk.refused == [(3, "conflict")]
        desk.finish()
        desk.turn("t2", "this", if_busy="steer")
        desk.turn("t2", "that", if_busy="steer")
        assert desk.refused == [(3, "conflict"), (5, "conflict")]
        assert sorted(desk.marked) == [0, 1, 2, 3, 4, 5]
        assert desk.log.kinds == ["claim", "control", "finish"]

    def test_the_next_owner_goes_on_with_it(self) -> None:
        log = Log()
        dead = Desk(log)
        dead.turn("t1")
        dead.turn("t2", "and this", if_busy="steer")
        owner = Desk(log)
        owner.turn("t1", offset=0)
        owner.turn("t2", "and this", offset=1, if_busy="steer")
        assert owner.started == [("t1", 2)]
        state = owner.session.state
        assert state is not None
        assert state.open is not None
        assert [note.turn for note in state.open.joined] == ["t2"]
        owner.finish()
        assert owner.outcomes() == {"t1": "completed", "t2": "completed"}
        assert sorted(owner.marked) == [0, 1]

    def test_a_stale_owner_that_let_it_wait_finds_it_joined(self) -> None:
        log = Log()
        stale, other = Desk(log, auto=False), Desk(log)
        stale.turn("t1", offset=0)
        stale.answer()
        other.turn("t1", offset=0)
        other.turn("t2", offset=1, if_busy="steer")
        stale.turn("t2", offset=1, if_busy="steer")
        while stale.questions or stale.unacked:
            if stale.questions:
                stale.answer()
            stale.acknowledge()
        assert stale.session.running == "t1"
        assert stale.session.waiting == 0
        stale.finish()
        while stale.questions or stale.unacked:
            if stale.questions:
                stale.answer()
            stale.acknowledge()
        assert stale.outcomes() == {"t1": "completed", "t2": "completed"}
        assert sorted(stale.marked) == [0, 1]

    def test_an_interrupt_settles_nothing_that_has_joined_meanwhile(self) -> None:
        log = Log()
        other, owner = Desk(log), Desk(log, auto=False)
        other.turn("t1", offset=0)
        owner.turn("t1", offset=0)
        owner.answer()  # the state: t1 is open, t2 is new
        owner.turn("t2", offset=1, if_busy="steer")
        owner.turn("t3", offset=2, if_busy="interrupt")
        owner.answer()  # proved: now t2 is to be settled, for t3
        other.turn("t2", offset=1, if_busy="steer")
        while owner.questions or owner.unacked:
            if owner.questions:
                owner.answer()
            owner.acknowledge()
        assert owner.session.running == "t3"
        assert "settle" not in log.kinds
        assert owner.outcomes() == {"t1": "cancelled", "t2": "completed"}
        assert owner.marked == [0, 1]

    def test_of_a_deleted_session_is_cancelled_with_the_turn(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.turn("t2", if_busy="steer")
        desk.control(DeleteControl(op="d", user="u"))
        assert desk.outcomes() == {"t1": "cancelled", "t2": "cancelled"}
        assert sorted(desk.marked) == [0, 1, 2]

    def test_a_cancel_of_it_comes_too_late_and_is_marked_with_its_end(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.turn("t2", if_busy="steer")
        desk.control(CancelControl(op="c", turn="t2", user="u"))
        assert desk.acks == [("c", "too_late")]
        assert desk.marked == []
        desk.finish()
        assert sorted(desk.marked) == [0, 1, 2]

    def test_joins_32_at_most(self) -> None:
        desk = Desk()
        desk.turn("t1")
        for number in range(40):
            desk.turn(f"s{number}", if_busy="steer")
        assert len(desk.steered) == 32
        assert desk.session.waiting == 8


class TestCommand:
    def test_is_applied_once_and_marked_with_the_turn(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.control(steer("t1"))
        desk.control(steer("t1"))
        assert desk.steered == ["x"]
        assert desk.acks == [("x", "applied"), ("x", "applied")]
        desk.finish()
        assert desk.session.idle
        assert [item.text for item in desk.log.state().history] == ["hi", "hi", "more"]
        assert last_finish(desk.log).joined == ()

    def test_of_a_turn_that_is_over_is_too_late(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.finish()
        desk.control(steer("t1"))
        assert desk.acks == [("x", "too_late")]

    def test_of_a_turn_that_is_about_to_end_is_too_late_once_it_is_over(self) -> None:
        desk = Desk()
        desk.turn("t1")
        assert desk.session.seal()
        desk.control(steer("t1"))
        assert desk.acks == []
        desk.finish()
        assert desk.acks == [("x", "too_late")]

    @pytest.mark.parametrize(("turn", "user", "answer"), [("t9", "u", "unknown"), ("t1", "eve", "unknown")])
    def test_of_what_is_not_there_for_this_user_is_unknown(self, turn: str, user: str, answer: str) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.control(steer(turn, user=user))
        assert desk.acks == [("x", answer)]
        assert desk.log.kinds == ["claim"]

    def test_of_a_turn_that_waits_is_refused(self) -> None:
        desk = Desk()
        desk.turn("t1")
        desk.turn("t2")
        desk.control(steer("t2"))
        assert desk.acks == [("x", "refused")]

    def test_of_a_turn_that_runs_nowhere_is_heard_by_who_takes_it_over(self) -> None:
        log = Log()
        Desk(log).turn("t1")
        owner = Desk(log)
        owner.control(steer("t1"), offset=9)
        assert log.kinds == ["claim", "control", "claim"]
        state = owner.session.state
        assert state is not None
        assert state.open is not None
        assert [note.value for note in state.open.joined] == ["more"]


def test_a_turn_that_joined_cannot_bring_what_the_running_one_does_not_take() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.turn("t2", if_busy="steer", agent="echo")
    assert desk.steered == ["~t2"]
    assert isinstance(desk.log.entries[1].input, TurnInput)  # type: ignore[union-attr]
