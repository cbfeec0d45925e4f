"""The verdict on one turn: full, partial or reset; never a silent hole, never doubled text."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.event import Event, Position, event_of
from gateway.lookup import TurnFacts
from gateway.reader import Reader
from gateway.resume import Resumed, catch_up, parse_position, recovered, reset_of, resume_token, resume_turn, worst
from gateway.turn_log import TurnLog
from schemas.frames import ApprovalRequested
from tests.unit.gateway.frames import accepted, asks, completed, decides, delta, reset, started


def log_of(*events: Event) -> TurnLog:
    log = TurnLog(("default", "s", "t"))
    for event in events:
        log.add(event)
    return log


RUNNING = TurnFacts("t", "running", attempt=1)
OVER = TurnFacts("t", "completed", attempt=1, text="abc", terminal=completed(4, "abc"))


def test_what_is_in_the_ring_is_full() -> None:
    log = log_of(accepted(), started(), delta(1, "a"), delta(2, "b"))

    resumed = resume_turn(log, RUNNING, (1, 1))

    assert (resumed.verdict, resumed.position, resumed.text) == ("full", (1, 1), "a")
    assert [event.seq for event in resumed.replay] == [2]


def test_whoever_has_the_text_of_the_journal_gets_no_delta_that_is_in_it() -> None:
    durable = resume_turn(None, TurnFacts("t", "running", 1, 0, "a"), None)
    assert (durable.position, durable.text, durable.blind) == ((1, -1), "a", True)

    resumed = resume_turn(log_of(started(), delta(1, "a"), delta(2, "b")), RUNNING, durable.position)

    assert (resumed.verdict, resumed.position, resumed.text) == ("partial", (1, 2), "ab")
    assert not resumed.replay


def test_a_newcomer_gets_everything_from_the_ring() -> None:
    resumed = resume_turn(log_of(accepted(), started(), delta(1, "a")), RUNNING, None)

    assert resumed.verdict == "full"
    assert [event.type for event in resumed.replay] == ["accepted", "started", "delta"]


def test_frames_that_are_gone_are_replaced_by_the_text_so_far() -> None:
    log = log_of(started(), *(delta(seq, f"{seq},") for seq in range(1, 50)))
    log.shrink(3_000)

    resumed = resume_turn(log, RUNNING, (1, 3))

    assert (resumed.verdict, resumed.position) == ("partial", (1, 49))
    assert resumed.text == "".join(f"{seq}," for seq in range(1, 50))
    assert resumed.replay == ()


def test_a_turn_that_is_over_elsewhere_comes_from_the_journal() -> None:
    resumed = resume_turn(None, OVER, (1, 2))

    assert (resumed.verdict, resumed.state, resumed.text) == ("partial", "completed", "abc")
    assert resumed.position < completed(4, "abc").position
    assert list(resumed.replay) == [completed(4, "abc")]


@pytest.mark.parametrize("here", [True, False])
def test_whoever_comes_to_a_suspended_turn_is_asked_once(here: bool) -> None:
    asked = event_of(
        ApprovalRequested(session="s", turn="t", attempt=1, seq=7, at_ms=1, call="c", kind="question", expires_ms=9)
    )
    facts = TurnFacts("t", "suspended", attempt=1, text="May I?", asked=asked)
    log = log_of(delta(6, "…"), asked) if here else None  # somebody else heard the beginning

    late = resume_turn(log, facts, (1, 2))
    there = resume_turn(log, facts, (1, 7))

    assert (late.verdict, late.state, late.text, late.position) == ("partial", "suspended", "May I?", (1, 6))
    assert list(late.replay) == [asked]
    assert list(there.replay) == []


def test_whoever_has_the_end_gets_nothing_more() -> None:
    resumed = resume_turn(None, OVER, (1, 4))

    assert (resumed.verdict, list(resumed.replay)) == ("full", [])


def test_an_attempt_that_is_void_is_a_reset() -> None:
    facts = TurnFacts("t", "running", attempt=2, step=0, text="a")

    resumed = resume_turn(None, facts, (1, 9))

    assert (resumed.verdict, resumed.text, resumed.step, resumed.blind) == ("reset", "a", 0, True)


def test_a_turn_that_runs_elsewhere_gives_its_durable_text_and_withholds_deltas() -> None:
    resumed = resume_turn(None, TurnFacts("t", "running", attempt=1, step=1, text="ab"), (1, 5))

    assert (resumed.verdict, resumed.text, resumed.blind) == ("partial", "ab", True)


@pytest.mark.parametrize(("after", "verdict"), [(None, "full"), ((0, 0), "full"), ((1, 3), "reset")])
def test_a_turn_that_nobody_knows_yet(after: Position | None, verdict: str) -> None:
    resumed = resume_turn(None, TurnFacts("t"), after)

    assert (resumed.verdict, resumed.state, resumed.text) == (verdict, "unseen", "")


def test_a_log_that_only_heard_of_the_publish_does_not_claim_to_know_a_running_turn() -> None:
    resumed = resume_turn(log_of(accepted()), RUNNING, (1, 5))

    assert (resumed.verdict, resumed.position, resumed.text) == ("partial", (1, -1), "")
    assert resume_turn(log_of(accepted()), replace(RUNNING, text="ab"), (1, 5)).blind


@pytest.mark.parametrize(
    ("follows", "passed"),
    [
        ([started(), delta(1, "a")], ["started", "delta"]),
        ([delta(3, "c"), delta(4, "d")], []),
        ([started(1, attempt=2), delta(2, "c", attempt=2)], ["started"]),
    ],
)
def test_deltas_follow_a_place_before_the_first_frame_only_where_that_frame_comes(
    follows: list[Event], passed: list[str]
) -> None:
    """Else whoever comes back with the place of a later frame has a hole: deltas before it were withheld."""
    resumed, seen = resume_turn(None, RUNNING, None), list[Event]()
    reader = Reader("default", "ann", seen.append)
    reader.start_at("s", "t", resumed.position, blind=resumed.blind)
    for event in follows:
        reader.offer(event)
    assert [event.type for event in seen] == passed


def test_whoever_has_nothing_catches_up() -> None:
    middle = log_of(delta(7, "x"))
    known = log_of(delta(7, "x"), reset(8, "abcx"), delta(9, "y"))

    assert [event.type for event in catch_up(log_of(started(), delta(1, "a")))] == ["started", "delta"]
    assert catch_up(middle) == []
    assert [(event.type, event.text, event.position) for event in catch_up(known)] == [("reset", "abcxy", (1, 9))]
    assert [event.type for event in catch_up(log_of(delta(7, "x"), completed(8, "abcx")))] == ["completed"]


def test_a_recovered_frame_says_where_each_turn_stands() -> None:
    items = [resume_turn(None, OVER, None), resume_turn(None, TurnFacts("t"), None)]
    frame = json.loads(recovered("s", worst([item.verdict for item in items]), items, "r"))

    assert (frame["type"], frame["verdict"], frame["session"], frame["ref"]) == ("recovered", "partial", "s", "r")
    assert set(frame["turns"][0]) == {"turn", "state", "attempt", "seq", "step", "text"}


@pytest.mark.parametrize("token", ["1-2", "0-0", "12-345678", "3--1"])
def test_a_token_goes_there_and_back(token: str) -> None:
    position = parse_position(token)

    assert position is not None
    assert f"{position[0]}-{position[1]}" == token
    assert resume_token(delta(5, "x", attempt=3)) == "3-5"


@pytest.mark.parametrize("token", ["", "1", "-1", "1-", "a-b", "1-2-3", "١-٢", "1--2", "1-" + "9" * 40])
def test_what_is_no_token_is_none(token: str) -> None:
    assert parse_position(token) is None


@st.composite
def stories(draw: st.DrawFn) -> list[Event]:
    """All frames of a turn: attempts, deltas, resets, and its end."""
    events, text = [accepted()], ""
    for attempt in range(1, draw(st.integers(1, 3)) + 1):
        seq = 0
        events.append(started(attempt=attempt))
        if attempt > 1 and draw(st.booleans()):
            seq, text = seq + 1, draw(st.sampled_from(["", text[:1]]))
            events.append(reset(seq, text, attempt=attempt))
        for piece in draw(st.lists(st.sampled_from(["a", "b", "cc"]), max_size=6)):
            seq, text = seq + 1, text + piece
            events.append(delta(seq, piece, attempt=attempt))
    last = events[-1]
    return [*events, completed(last.seq + 1, text, attempt=max(last.attempt, 1))]


def shown_by(events: list[Event], text: str = "") -> str:
    """What a plain client shows after these frames."""
    for event in events:
        if event.type == "delta":
            text += event.text
        elif event.type in {"reset", "completed"}:
            text = event.text
    return text


@given(stories(), st.data())
def test_wherever_a_client_is_cut_off_and_comes_back_it_shows_what_is_right(
    story: list[Event], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(story) - 1), label="frames the client has")
    back = data.draw(st.integers(cut, len(story)), label="frames that are out when it comes back")
    begins = data.draw(st.integers(0, back), label="where this gateway begins to hear")
    limit = data.draw(st.sampled_from([10_000_000, 1_500, 900, 1]), label="bytes of the log")
    log = TurnLog(("default", "s", "t"))
    for event in story[begins:back]:
        log.add(event)
        log.shrink(limit)
    over = story[back - 1] if back == len(story) else None
    facts = (
        TurnFacts("t", "completed", 1, -1, over.text, over)
        if over
        else TurnFacts("t", "running", story[max(back, 2) - 1].attempt)
    )
    after = story[cut - 1].position if cut else None

    resumed: Resumed = resume_turn(log, facts, after)
    seen: list[Event] = []
    reader = Reader("default", "ann", seen.append)
    text = shown_by(story[:cut]) if resumed.verdict == "full" else resumed.text
    reader.start_at("s", "t", resumed.position, blind=resumed.blind)
    reader.release("s", "t", resumed.replay)
    for number, event in enumerate(story[back:], back + 1):
        reader.offer(event)
        if not reader.is_blind("s", "t") and not (resumed.blind and not seen):
            assert shown_by(seen, text) == shown_by(story[:number])

    assert shown_by(seen, text) == story[-1].text
    assert sum(event.terminal for event in seen) == (0 if after == story[-1].position else 1)
    positions = [event.position for event in seen]
    assert positions == sorted(set(positions))


def test_a_reset_of_our_own_has_the_place_of_the_last_frame() -> None:
    resumed = resume_turn(None, TurnFacts("t", "running", attempt=2, step=3, text="so far"), (2, 1))
    event = reset_of("default", "s", resumed)

    assert (event.type, event.step, event.text, event.attempt) == ("reset", 3, "so far", 2)


def test_whoever_was_told_the_journals_text_before_any_frame_goes_on_from_there() -> None:
    """Its place is before the attempt's first frame, which is still to come; its text may say more than that place."""
    facts = TurnFacts("t", "running", attempt=1, step=0, text="abc")
    told = reset_of("default", "s", resume_turn(None, facts, (0, 0)))
    assert (0, 0) < told.position < started().position
    after = parse_position(resume_token(told))
    assert after == told.position
    story = [accepted(), started(), delta(1, "abc"), delta(2, "d")]
    assert resume_turn(log_of(*story), facts, after).verdict == "partial"


def test_a_question_of_a_call_that_runs_follows_though_no_journal_has_it() -> None:
    """As after a `watch`: the owner sends what the answer is and what is asked, before anybody here is told."""
    log = log_of(reset(5, "so far"), asks(6))

    resumed = resume_turn(log, RUNNING, None)
    assert (resumed.verdict, resumed.state, resumed.position, resumed.text) == ("partial", "running", (1, 5), "so far")
    assert [(event.type, event.seq) for event in resumed.replay] == [("approval_requested", 6)]
    assert not resumed.blind

    later = log_of(reset(5, "so far"), asks(6), delta(7, ", and on"))
    resumed = resume_turn(later, RUNNING, (1, 2))
    assert [event.seq for event in resumed.replay] == [6, 7]
    assert [event.seq for event in resume_turn(later, RUNNING, (1, 6)).replay] == [7]
    assert [event.type for event in catch_up(later)] == ["reset", "approval_requested", "delta"]


@pytest.mark.parametrize("after", [decides(7), started(0, attempt=2), reset(1, "b", attempt=2)])
def test_a_question_that_is_over_follows_nowhere(after: Event) -> None:
    log = log_of(reset(5, "so far"), asks(6), after)
    assert log.before_asked is None
    assert resume_turn(log, RUNNING, None).replay == ()


def test_a_question_whose_place_is_gone_from_the_ring_is_not_made_up() -> None:
    log = log_of(started(), asks(1), *(delta(seq, "x" * 50) for seq in range(2, 60)))
    before = [event.seq for event in resume_turn(log, RUNNING, (1, 0)).replay]
    assert before[0] == 1
    log.shrink(3_000)
    assert log.before_asked is None
    assert resume_turn(log, RUNNING, (1, 0)).position == (1, 59)
