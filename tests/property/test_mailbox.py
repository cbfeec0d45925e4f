"""Any sequence of turns, copies, cancels, deletes and endings: one outcome a turn, in order, everything marked."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.control import CancelControl, DeleteControl
from schemas.entries import Claim, Close, Finish, Settle
from tests.support.desk import Desk

TURN = st.integers(0, 5)
STEP = st.one_of(
    st.tuples(st.just("turn"), TURN),
    st.tuples(st.just("cancel"), TURN),
    st.tuples(st.just("finish"), st.just(0)),
    st.tuples(st.just("finish"), st.just(0)),
    st.tuples(st.just("acknowledge"), st.just(0)),
    st.tuples(st.just("delete"), st.just(0)),
    st.tuples(st.just("evict"), st.just(0)),
)


def settle(desk: Desk) -> None:
    """Let everything come to rest: answers, endings, acknowledgements."""
    for _ in range(200):
        if desk.questions:
            desk.answer()
        elif desk.unacked:
            desk.acknowledge()
        elif desk.session.running is not None:
            _finish(desk)
        else:
            return
    raise AssertionError("does not come to rest")


def _finish(desk: Desk) -> None:
    if desk.stopped:
        desk.finish("part", "cancelled", by=desk.stopped.pop())
    else:
        desk.finish()


def play(steps: list[tuple[str, int]]) -> tuple[Desk, int]:
    """Play the steps, each question answered at once, publications acknowledged only when the steps say so."""
    desk = Desk(auto=False)
    records = 0
    for number, (what, turn) in enumerate(steps):
        while desk.questions:
            desk.answer()
        if what == "turn":
            desk.turn(f"t{turn}", f"text {turn}")
            records += 1
        elif what == "cancel":
            desk.control(CancelControl(op=f"c{number}", turn=f"t{turn}", user="u"))
            records += 1
        elif what == "delete":
            desk.control(DeleteControl(op=f"d{number}", user="u"))
            records += 1
        elif what == "acknowledge":
            desk.acknowledge()
        elif what == "finish" and desk.session.running is not None:
            _finish(desk)
        elif what == "evict" and desk.session.idle and desk.session.state is not None:
            desk.session.state = desk.session.state._replace(ended_turns={})
    settle(desk)
    return desk, records


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(STEP, max_size=30))
def test_every_record_is_marked_once_everything_rests(steps: list[tuple[str, int]]) -> None:
    desk, records = play(steps)
    assert sorted(set(desk.marked)) == list(range(records))
    assert len(desk.marked) == records
    assert desk.session.idle
    assert desk.slots == 1


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(STEP, max_size=30))
def test_a_turn_has_at_most_one_outcome_and_turns_never_overlap(steps: list[tuple[str, int]]) -> None:
    desk, _ = play(steps)
    outcomes: list[str] = []
    running: str | None = None
    for entry in desk.log.entries:
        claims = [entry] if isinstance(entry, Claim) else []
        if isinstance(entry, Finish):
            assert entry.turn == running
            outcomes.append(entry.turn)
            running = None
            claims = [entry.claim] if entry.claim is not None else []
        elif isinstance(entry, Settle):
            outcomes.append(entry.turn)
        elif isinstance(entry, Close):
            outcomes.extend(entry.ended)
            running = None
        for claim in claims:
            assert running is None
            running = claim.turn
    assert running is None
    assert len(outcomes) == len(set(outcomes))
    published = {turn for turn, _ in desk.published}
    assert published == set(outcomes)
