"""What a person sees of one turn, whatever happens to the connection."""

from __future__ import annotations

from typing import Any

import pytest

from fleet.answer import Answer, Decided, Line, Piece, ending, printable
from fleet.asking import Asked


def frame(kind: str, attempt: int, seq: int, /, **more: Any) -> dict[str, Any]:
    return {"type": kind, "session": "s", "turn": "t", "attempt": attempt, "seq": seq, "at_ms": 1, **more}


def shown(answer: Answer, *frames: dict[str, Any]) -> str:
    """The screen after these frames; `|` where everything before became void."""
    pieces = [piece for one in frames for piece in answer.take(one) if isinstance(piece, Piece)]
    return "".join(("|" if piece.anew else "") + piece.text for piece in pieces)


def test_deltas_are_shown_as_they_come_and_the_end_adds_nothing() -> None:
    answer = Answer("t")
    text = shown(
        answer,
        frame("accepted", 0, 0),
        frame("started", 1, 0),
        frame("delta", 1, 1, text="a"),
        frame("delta", 1, 4, text="b"),
        frame("completed", 1, 5, text="ab"),
    )
    assert text == "ab"
    assert answer.accepted
    assert answer.end is not None
    assert answer.end["type"] == "completed"


def test_a_frame_that_comes_twice_is_shown_once() -> None:
    answer = Answer("t")
    assert shown(answer, frame("delta", 1, 1, text="a"), frame("delta", 1, 1, text="a")) == "a"


def test_a_frame_of_an_older_attempt_is_not_shown() -> None:
    answer = Answer("t")
    assert shown(answer, frame("delta", 2, 1, text="new"), frame("delta", 1, 9, text="old")) == "new"


def test_a_coalesced_end_shows_what_the_deltas_did_not() -> None:
    assert shown(Answer("t"), frame("delta", 1, 1, text="he"), frame("completed", 1, 9, text="hello")) == "hello"


@pytest.mark.parametrize(
    ("data", "screen"), [({"n": [1, "\x9b"]}, '{"n": [1, "\\u009b"]}'), (False, "false"), (None, "")]
)
def test_an_answer_that_is_data_alone_is_shown(data: Any, screen: str) -> None:
    assert shown(Answer("t"), frame("completed", 1, 1, text="", data=data)) == screen
    assert shown(Answer("t"), frame("completed", 1, 1, text="one", data=data)) == "one"


def test_a_reset_voids_what_was_shown_unless_it_is_the_beginning_of_the_answer() -> None:
    first = frame("delta", 1, 1, text="draft")
    assert shown(Answer("t"), first, frame("reset", 2, 0, text="other", step=-1)) == "draft|other"
    assert shown(Answer("t"), first, frame("reset", 2, 0, text="draft and", step=0)) == "draft and"


def test_deltas_of_a_sub_agent_and_other_turns_are_no_part_of_the_answer() -> None:
    other = {**frame("delta", 1, 2, text="x"), "turn": "u"}
    assert shown(Answer("t"), frame("delta", 1, 1, text="inner", run="r1"), other) == ""


def test_unknown_frame_types_are_ignored() -> None:
    assert shown(Answer("t"), frame("hologram", 1, 1, text="x")) == ""


@pytest.mark.parametrize(("verdict", "screen"), [("full", ""), ("partial", "lo"), ("reset", "lo")])
def test_after_a_lost_connection_the_verdict_says_whether_the_text_counts(verdict: str, screen: str) -> None:
    answer = Answer("t")
    answer.take(frame("delta", 1, 1, text="hel"))
    turns = [{"turn": "t", "state": "running", "attempt": 1, "seq": 7, "step": -1, "text": "hello"}]
    pieces = answer.recovered({"type": "recovered", "verdict": verdict, "turns": turns})
    assert "".join(piece.text for piece in pieces if isinstance(piece, Piece)) == screen
    late = answer.take(frame("delta", 1, 2, text="lo"))
    assert bool(late) == (verdict == "full"), "after `partial` the text up to seq 7 was already given"


def test_where_to_go_on_is_the_last_frame_that_was_seen() -> None:
    answer = Answer("t")
    assert answer.after == {"turn": "t", "attempt": 0, "seq": 0}
    answer.take(frame("delta", 2, 3, text="x"))
    assert answer.after == {"turn": "t", "attempt": 2, "seq": 3}


def test_a_cancelled_turn_keeps_what_was_shown() -> None:
    answer = Answer("t")
    answer.take(frame("delta", 1, 1, text="half"))
    assert answer.take(frame("cancelled", 1, 2, by="user", text="ha")) == []
    assert answer.shown == "half"
    assert ending(answer.end or {}) == "cancelled by user"


def test_what_a_model_says_cannot_drive_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\x9b1m\nc\td\x7f") == "a[2Jb1m\nc\td"


def test_a_piece_says_whether_everything_before_is_void() -> None:
    assert Piece("x") != Piece("x", anew=True)


def lines(answer: Answer, *frames: dict[str, Any]) -> list[str]:
    """What is shown beside the answer."""
    return [sight.text for one in frames for sight in answer.take(one) if isinstance(sight, Line | Decided)]


def test_a_call_and_its_result_are_one_line_each_and_a_sub_agents_are_indented() -> None:
    said = [{"type": "text", "text": "three\ntrains"}]
    text = lines(
        Answer("t"),
        frame("tool_call", 1, 1, call="c", name="look", arguments={"to": "Ulm"}),
        frame("tool_call", 1, 2, call="d", name="ask", arguments_text="{", run="r", parent_call="c"),
        frame("tool_result", 1, 3, call="c", name="look", content=said),
        frame("tool_result", 1, 4, call="d", name="ask", content=[], is_error=True),
    )
    assert text == ['  → look {"to": "Ulm"}', '    → ask "{"', "  ← look done: three trains", "  ← ask error: "]


def test_the_plan_is_shown_when_it_changes() -> None:
    plan = [{"text": "a", "status": "done"}, {"text": "b", "status": "in_progress"}, {"text": "c", "status": "?"}]
    first, again = frame("state", 1, 1, name="plan", value=plan), frame("state", 1, 2, name="plan", value=plan)
    assert lines(Answer("t"), first, again) == ["  [x] a\n  [~] b\n  [ ] c"]


def test_a_notice_is_shown_and_other_states_are_not() -> None:
    notice, other = frame("state", 1, 1, name="notice", value="no tools"), frame("state", 1, 2, name="x", value=1)
    assert lines(Answer("t"), notice, other) == ["  no tools"]


def test_an_approval_is_asked_once_and_closed_by_whoever_decides() -> None:
    answer = Answer("t")
    asked = {"call": "c", "kind": "tool_call", "name": "pay", "expires_ms": 1}
    assert [type(sight) for sight in answer.take(frame("approval_requested", 1, 1, **asked))] == [Asked]
    assert answer.take(frame("approval_requested", 1, 2, **asked)) == [], "sent again after an attach"
    decided = answer.take(frame("approval_decided", 1, 3, call="c", decision="deny", by="deadline"))
    assert decided == [Decided("c", "denied by deadline")]
    assert answer.asked is None


def test_a_question_ends_with_its_attempt_and_where_it_is_withdrawn() -> None:
    answer = Answer("t")
    asked = {"call": "c.a1.1", "kind": "question", "expires_ms": 1}
    answer.take(frame("approval_requested", 1, 1, **asked))
    withdrawn = answer.take(frame("approval_decided", 1, 2, call="c.a1.1", decision="deny", by="withdrawn"))
    assert withdrawn == [Decided("c.a1.1", "no longer open")]
    answer.take(frame("approval_requested", 1, 3, **{**asked, "call": "c.a1.2"}))
    assert answer.take(frame("step", 1, 4, step=0, kind="tool", name="x")) == []
    assert answer.take(frame("started", 2, 0)) == [Decided("c.a1.2", "no longer open")]
    assert answer.asked is None
    assert answer.take(frame("started", 3, 0)) == []


def test_an_approval_ends_with_its_turn() -> None:
    answer = Answer("t")
    answer.take(frame("approval_requested", 1, 1, call="c", kind="question", expires_ms=1))
    assert lines(answer, frame("cancelled", 1, 2, by="user", text="")) == ["no longer open"]


def test_an_approval_that_was_decided_while_the_connection_was_lost_is_closed() -> None:
    answer = Answer("t")
    answer.take(frame("approval_requested", 1, 1, call="c", kind="question", expires_ms=1))
    turns = [{"turn": "t", "state": "suspended", "attempt": 1, "seq": 1, "text": ""}]
    assert answer.recovered({"verdict": "partial", "turns": turns}) == []
    turns = [{"turn": "t", "state": "running", "attempt": 2, "seq": 1, "text": ""}]
    assert answer.recovered({"verdict": "reset", "turns": turns}) == [Decided("c", "no longer open")]


def test_what_a_tool_says_beside_the_answer_cannot_hide_anything() -> None:
    text = lines(Answer("t"), frame("tool_call", 1, 1, call="c", name="a\x1b[2J", arguments={"x": "\u202eevil"}))
    assert text == ['  → a[2J {"x": "\\u202eevil"}']


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "failed", "message": "\x1b]0;mine\x07\x1b[2Jgone \u202efdp", "code": "model_error"},
        {"type": "error", "message": "no", "code": "\x1b[31mbad"},
        {"type": "cancelled", "by": "\x1b[1mann\x9b2J"},
    ],
)
def test_how_a_turn_ended_drives_no_terminal(frame: dict[str, str]) -> None:
    assert ending(frame).isprintable()
