"""Where turns run, by their frames."""

from __future__ import annotations

from typing import Any

from loadtest.moves import Moves


def frame(kind: str, attempt: int, **more: Any) -> dict[str, Any]:
    return {"type": kind, "turn": "t1", "attempt": attempt, **more}


def test_a_turn_that_goes_on_elsewhere_tells_when_and_from_which_step() -> None:
    moves = Moves()
    moves.heard(frame("started", 1, worker="host-11-a"), 1.0)
    moves.heard(frame("step", 1, step=0), 2.0)
    assert moves.running("-11-") == ["t1"]
    moves.heard(frame("started", 2, worker="host-12-b"), 5.0)
    assert (moves.running("-11-"), moves.running("-12-")) == ([], ["t1"])
    moves.heard(frame("delta", 1, text="late"), 5.5)
    moves.heard(frame("step", 2, step=1), 6.0)
    moves.heard(frame("step", 2, step=2), 7.0)
    turn = moves.turns["t1"]
    assert (turn.attempt, turn.moved_s, turn.step_s, turn.steps) == (2, 5.0, 6.0, 2)
    assert (moves.stale_s, moves.again) == ([5.5], [])
    assert moves.started == [(1.0, "host-11-a"), (5.0, "host-12-b")]


def test_a_step_that_is_told_by_two_attempts_is_named_and_a_turn_that_is_over_runs_nowhere() -> None:
    moves = Moves()
    moves.heard(frame("started", 1, worker="w"), 1.0)
    moves.heard(frame("step", 1, step=0), 2.0)
    moves.heard(frame("step", 2, step=0), 3.0)
    assert moves.again == ["step 0 of t1 in attempt 2"]
    moves.heard(frame("completed", 2), 4.0)
    moves.heard(frame("delta", 1), 5.0)
    assert (moves.running("w"), moves.stale_s) == ([], [])


def test_frames_that_are_no_attempt_of_a_turn_say_nothing() -> None:
    moves = Moves()
    moves.heard({"type": "ack", "op": "o1", "session": "s1"}, 1.0)
    moves.heard({"type": "refused", "turn": None}, 1.0)
    assert moves.turns == {}
