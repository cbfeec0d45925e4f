"""The fold, case by case: what an entry does, what contradicts, what a CLOSE leaves behind."""

from __future__ import annotations

import pytest

from journal.fold import REMEMBERED_TURNS, FoldError, fold
from journal.folding import fold_rows, snapshot_of, state_of
from journal.port import Row
from journal.state import EMPTY
from schemas.entries import Release
from tests.support.entries import Session


@pytest.fixture
def session() -> Session:
    return Session()


def lived(session: Session) -> Session:
    """A turn that ran and was over, then the end of the session."""
    session.add(session.claim())
    session.add(session.finish())
    session.add(session.close())
    return session


def hollow(row: Row) -> Row:
    return row._replace(body=None, frames=())


def test_a_turn_adds_what_was_asked_and_what_was_answered(session: Session) -> None:
    session.add(session.claim(history=True))
    session.add(session.finish())

    assert [(item.role, item.text) for item in session.state.history] == [
        ("user", "before"),
        ("assistant", "yes"),
        ("user", "hi"),
        ("assistant", "hi"),
    ]
    assert session.state.open is None
    assert session.state.turns == 1
    assert [(item.turn, item.outcome, item.version) for item in session.state.over] == [("t2", "completed", 2)]


def test_a_rollback_takes_the_question_back_too(session: Session) -> None:
    session.add(session.claim())
    session.add(session.finish("cancelled", rollback=True))

    assert [item.role for item in session.state.history] == ["assistant"]


def test_what_a_session_keeps_is_replaced_by_name_and_goes_with_its_life(session: Session) -> None:
    for kept in ({"plan": [1], "note": {"$a.b": 1}}, {"plan": None, "more": 2}):
        session.add(session.claim())
        session.add(session.finish().model_copy(update={"kept": kept}))

    assert session.state.kept == {"note": {"$a.b": 1}, "more": 2}
    assert fold_rows(EMPTY, session.rows).kept == session.state.kept
    assert state_of(snapshot_of(session.state), ()).kept == session.state.kept
    session.add(session.close())
    assert session.state.kept == {}


def test_an_intent_is_over_with_the_step_of_its_own_branch(session: Session) -> None:
    session.add(session.claim())
    session.add(session.intent().model_copy(update={"run": "a"}))
    session.add(session.step())
    assert session.state.open is not None
    assert [intent.run for intent in session.state.open.intents] == ["a"]
    session.add(session.step().model_copy(update={"run": "a", "step": 0}))
    assert session.state.open.intents == ()


def test_tries_count_in_a_row_and_progress_starts_them_again(session: Session) -> None:
    session.add(session.claim())
    session.add(session.claim())
    assert session.state.open is not None
    assert (session.state.open.attempt, session.state.open.tries, session.state.open.progress) == (2, 2, False)

    session.add(session.step())
    assert session.state.open.progress
    session.add(session.claim())
    assert (session.state.open.attempt, session.state.open.tries) == (3, 1)


def test_an_intent_is_open_until_its_step_and_no_progress(session: Session) -> None:
    session.add(session.claim())
    session.add(session.intent())
    session.add(session.claim())
    assert session.state.open is not None
    assert [intent.step for intent in session.state.open.intents] == [0]
    assert (session.state.open.tries, session.state.open.progress) == (2, False)

    session.add(session.step())
    assert (session.state.open.intents, session.state.open.progress) == ((), True)


def test_the_intent_of_an_older_attempt_contradicts(session: Session) -> None:
    session.add(session.claim())
    late = session.intent()
    session.add(session.claim())

    with pytest.raises(FoldError, match="INTENT of t2 attempt 1"):
        session.add(late)


def test_a_release_takes_its_own_attempt_out_of_the_count(session: Session) -> None:
    session.add(session.claim())
    session.add(session.claim())
    session.add(Release(at_ms=session.at(), turn="t2", attempt=2))
    session.add(session.claim())
    assert session.state.open is not None
    assert (session.state.open.attempt, session.state.open.tries) == (3, 2)


def test_the_entry_of_an_older_attempt_contradicts(session: Session) -> None:
    session.add(session.claim())
    late = session.finish()
    session.add(session.claim())

    with pytest.raises(FoldError, match="attempt 1"):
        session.add(late)


def test_a_gap_a_second_open_and_a_claim_without_a_session_contradict(session: Session) -> None:
    opened, claim = session.open(), session.claim()
    with pytest.raises(FoldError, match="gap"):
        fold(EMPTY, 2, opened)
    with pytest.raises(FoldError, match="lives"):
        fold(fold(EMPTY, 1, opened), 2, opened)
    with pytest.raises(FoldError, match="not open"):
        fold(EMPTY, 1, claim.model_copy(update={"opens": None}))


def test_a_close_ends_what_ran_and_waited_and_keeps_no_content(session: Session) -> None:
    session.add(session.claim())
    session.add(session.control("steer", "t-steer", given=session.given()))
    session.add(session.control("cancel", "t-later"))
    close = session.add(session.close())

    state = session.state
    assert (state.opened, state.open, len(state.history), state.turns) == (None, None, 0, 0)
    assert {(item.turn, item.outcome, item.version) for item in state.over} == {
        ("t2", "cancelled", close.v),
        ("t-steer", "cancelled", close.v),
    }
    assert [item.turn for item in state.ahead] == ["t-later"]
    assert not state.wiped
    assert not state.at_rest
    with pytest.raises(FoldError, match="at rest"):
        snapshot_of(state)


def test_after_a_close_versions_go_on_and_nothing_old_is_seen(session: Session) -> None:
    lived(session)
    row = session.add(session.claim())

    assert row.v == 4
    assert session.state.base == 4
    assert len(session.state.history) == 0


def test_unset_rows_below_a_close_count_by_their_keys(session: Session) -> None:
    lived(session)

    state = fold_rows(EMPTY, [*map(hollow, session.rows[:2]), session.rows[2]])

    assert state.wiped
    assert state.version == 3
    assert [op.op for op in state.ops] == [op.op for op in session.state.ops]


def test_an_unset_row_that_no_close_follows_contradicts(session: Session) -> None:
    session.add(session.claim())

    with pytest.raises(FoldError, match="no CLOSE follows"):
        fold_rows(EMPTY, map(hollow, session.rows))


def test_a_warm_state_that_meets_a_close_does_not_call_the_rest_wiped(session: Session) -> None:
    lived(session)
    warm = fold_rows(EMPTY, session.rows[:2])

    assert not fold_rows(warm, session.rows[2:]).wiped
    from_a_snapshot = fold_rows(fold_rows(EMPTY, session.rows[:1]), [hollow(session.rows[1]), session.rows[2]])
    assert not from_a_snapshot.wiped  # the rows are unset, and the snapshot may be there still
    assert fold_rows(EMPTY, [*map(hollow, session.rows[:2]), session.rows[2]]).wiped


def test_a_hollow_cancel_of_a_turn_that_ran_is_not_ahead(session: Session) -> None:
    session.add(session.claim())
    session.add(session.control("cancel", "t2"))  # the turn that runs
    session.add(session.control("cancel", "t-later"))
    session.add(session.finish("cancelled"))
    session.add(session.close())

    state = fold_rows(EMPTY, [hollow(session.rows[0]), *session.rows[1:3], hollow(session.rows[3]), session.rows[4]])

    assert [item.turn for item in state.ahead] == ["t-later"]
    assert state.ahead == session.state.ahead


def test_a_session_that_was_buried_below_its_close_goes_on_above_it(session: Session) -> None:
    lived(session)
    session.add(session.claim())
    session.add(session.finish())

    state = fold_rows(EMPTY, session.rows[2:])
    assert state.history == session.state.history
    assert state.version == 5

    with pytest.raises(FoldError, match="gap"):
        fold_rows(fold_rows(EMPTY, session.rows[:1]), session.rows[3:])


def test_only_so_many_ended_turns_are_remembered(session: Session) -> None:
    for _ in range(REMEMBERED_TURNS + 5):
        row = session.add(session.settle(session.new("t")))

    assert len(session.state.over) == REMEMBERED_TURNS
    assert session.state.over[-1].version == row.v
    assert session.state.ended("t1") is None
    assert session.state.ended(row.turn or "") is not None


def test_a_finish_may_carry_the_next_claim(session: Session) -> None:
    session.add(session.claim())
    given = session.given()
    following = session.claim().model_copy(update={"turn": "next", "attempt": 1, "tries": 1, "input": given})
    row = session.add(session.finish(claim=following))

    assert row.turn == "next"
    assert session.state.open is not None
    assert session.state.open.turn == "next"
    assert session.state.turns == 2
