"""The history checker: a clean history has no finding, and every way of breaking a promise has its own."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest

from fleet.chaos.evidence import Saved
from fleet.chaos.finding import KEPT, MEANINGS, Finding, Kind, Verdict
from tests.support.history import HOME, History, assistant, terminal, tool

Plant = Callable[[History], None]


def clean() -> History:
    """Streamed turns, a take-over with a step, a merged CLAIM, a cancel of a waiting turn, copies of everything."""
    history = History()
    history.turn("t1")
    offset = history.record("t2")
    history.record("t1")
    history.claim("t2", offset=offset)
    history.delta("t2", 1, "lost with its worker")
    history.step("t2", 0)
    history.writer = "w2"
    history.claim("t2", 2, offset)
    history.delta("t2", 1, "kept ", 2, "reset")
    history.delta("t2", 2, "text", 2)
    history.step("t2", 1, 2)
    offset = history.record("t3")
    kept = [assistant("t2", "kept ", 1, "c1"), tool("t2", "c1"), assistant("t2", "text", 3)]
    merged = history.claimed("t3", 1, offset)
    end = history.finish("t2", 2, text="kept text", seq=3, history=kept, claim=merged)
    for _ in range(2):
        history.publish(end)
        history.publish(end, 1)
    history.record("t4")
    history.cancel("t4", state="applied")
    history.publish(history.settle("t4"))
    history.publish(history.finish("t3"))
    return history


def steered(history: History, *, kept: bool) -> None:
    """A turn and a command say something to a running turn."""
    history.claim("t5", offset=history.record("t5"))
    history.record("t6")
    note = {"op": "~t6", "kind": "steer", "turn": "t6", "user": "u", "input": {"text": "and this"}}
    history.row("control", note, turn="t6")
    history.row("control", {"op": "o7", "kind": "steer", "turn": "t5", "user": "u", "value": "more"})
    user: dict[str, object] = {"turn": "t5", "role": "user", "parts": []}
    said = [{"id": name, **user} for name in ("t6~0", "o7~0")]
    history.publish(history.finish("t5", history=[assistant("t5", "said t5"), *(said if kept else said[:1])]))
    into = terminal("t6", "completed", 0, seq=2, into="t5")
    last = history.rows[-1]
    body = orjson.dumps({**orjson.loads(last.body or ""), "joined": ["t6"]}).decode()
    history.rows[-1] = last._replace(body=body, frames=(*last.frames, into))
    history.publish(into)


def lost(history: History) -> None:
    history.record("t5")
    history.turn("t6")


def lost_as_the_last(history: History) -> None:
    history.record("t5")


def not_moved(history: History) -> None:
    history.record("t5", partition=HOME + 1)


def commit_ahead(history: History) -> None:
    history.claim("t5", offset=history.record("t5"))


def published_but_not_ended(history: History) -> None:
    commit_ahead(history)
    history.committed = 4
    history.frame({"type": "completed", "turn": "t5", "attempt": 1, "seq": 1, "text": ""})


def ended_but_not_published(history: History) -> None:
    commit_ahead(history)
    history.finish("t5")


def forgotten_by_the_close(history: History) -> None:
    commit_ahead(history)
    history.close()


def unfinished(history: History) -> None:
    history.committed = len(history.turns)
    history.claim("t5", offset=history.record("t5"))


def two_in_the_journal(history: History) -> None:
    history.settle("t3")


def two_on_the_replies(history: History) -> None:
    history.frame({"type": "failed", "turn": "t1", "attempt": 1, "seq": 9, "text": ""})


def doubled(history: History) -> None:
    history.claim("t1", offset=2)
    history.finish("t1", seq=10)


def run_again(history: History) -> None:
    history.row("claim", history.claimed("t1", 2))
    history.finish("t1", 2)


def gap(history: History) -> None:
    history.rows.pop(2)


def unset_without_a_close(history: History) -> None:
    history.unset(1, 2)


def double_version(history: History) -> None:
    history.row("control", {"op": "o9", "kind": "cancel", "turn": "later"}, v=9)


def double_nonce(history: History) -> None:
    history.rows[5] = history.rows[5]._replace(nonce=history.rows[4].nonce)


def stray_step(history: History) -> None:
    history.step("t3", 0)


def stray_claim(history: History) -> None:
    history.row("claim", history.claimed("t5", 2))
    history.finish("t5", 2)


def settled_while_it_runs(history: History) -> None:
    history.claim("t5", offset=history.record("t5"))
    history.publish(history.settle("t5"))


def stranger(history: History) -> None:
    offset = history.record("t5")
    history.row("claim", {**history.claimed("t5", offset=offset), "user": "v"}, turn="t5")
    history.publish(history.finish("t5"))


def not_opened(history: History) -> None:
    history.rows.clear()
    history.claim("t1", opens=False)


def unreadable(history: History) -> None:
    history.row("release", {})


def reordered(history: History) -> None:
    first, second = history.record("t5"), history.record("t6")
    history.claim("t6", offset=second)
    history.publish(history.finish("t6"))
    history.claim("t5", offset=first)
    history.publish(history.finish("t5"))


def frames_reordered(history: History) -> None:
    ends = []
    for turn in ("t5", "t6"):
        history.claim(turn, offset=history.record(turn))
        ends.append(history.finish(turn))
    for end in reversed(ends):
        history.publish(end)


def overlap(history: History) -> None:
    for turn in ("t5", "t6"):
        history.claim(turn, offset=history.record(turn))
    history.publish(history.finish("t6"))


def old_attempt(history: History) -> None:
    history.claim("t5", offset=history.record("t5"))
    history.writer = "w3"
    history.claim("t5", 2)
    history.step("t5", 0, 1)
    history.publish(history.finish("t5", 2))


def same_attempt_claimed_twice(history: History) -> None:
    history.claim("t5", offset=history.record("t5"))
    history.writer = "w3"
    history.row("claim", history.claimed("t5", 1))
    history.publish(history.finish("t5"))


def other_writer(history: History) -> None:
    history.claim("t5", offset=history.record("t5"))
    history.writer = "w3"
    history.publish(history.finish("t5"))


def step_twice(history: History) -> None:
    history.claim("t5", offset=history.record("t5"))
    history.step("t5", 0)
    history.step("t5", 0)
    history.publish(history.finish("t5"))


def step_not_kept(history: History) -> None:
    history.frame({"type": "step", "turn": "t2", "attempt": 2, "seq": 60, "step": 2})


def terminal_differs(history: History) -> None:
    history.claim("t5", offset=history.record("t5"))
    history.publish(history.finish("t5").replace("said", "told"))


def outcome_differs(history: History) -> None:
    history.claim("t5", offset=history.record("t5"))
    end = history.finish("t5").replace("completed", "failed")
    history.rows[-1] = history.rows[-1]._replace(frames=(end,))
    history.publish(end)


def delta_lost(history: History) -> None:
    del history.frames[0]


def stream_without_its_reset(history: History) -> None:
    history.frames = [record for record in history.frames if record.frame["type"] != "reset"]


def two_texts_in_one_place(history: History) -> None:
    history.delta("t1", 7, "other ")


def history_differs(history: History) -> None:
    history.claim("t5", offset=history.record("t5"))
    history.publish(history.finish("t5", history=[assistant("t5", "something else")]))


def snapshot_behind_its_version(history: History) -> None:
    history.saved = Saved(2, 1, 1, ())


def snapshot_with_other_words(history: History) -> None:
    history.saved = Saved(2, 1, 2, (assistant("t1", "other"),))


def snapshot_of_the_future(history: History) -> None:
    history.saved = Saved(99, 3, 9, ())


def snapshot_left(history: History) -> None:
    history.close()
    history.unset(*range(1, 10))
    history.saved = Saved(7, 3, 6, ())


def rows_left(history: History) -> None:
    history.close()


def call_without_result(history: History) -> None:
    history.claim("t5", offset=history.record("t5"))
    history.publish(history.finish("t5", history=[assistant("t5", "said t5", 1, "c1")]))


def result_without_call(history: History) -> None:
    history.claim("t5", offset=history.record("t5"))
    history.publish(history.finish("t5", history=[tool("t5", "c9"), assistant("t5", "said t5")]))


def steer_lost(history: History) -> None:
    steered(history, kept=False)


def not_answered(history: History) -> None:
    history.cancel("t1", "o5")


def applied_to_no_avail(history: History) -> None:
    history.cancel("t1", "o5", state="applied")


def held_to_no_avail(history: History) -> None:
    history.cancel("t1", "o5", state="held")


def too_late_for_nothing(history: History) -> None:
    history.claim("t5", offset=history.record("t5"))
    history.committed = 5
    history.cancel("t5", "o5", state="too_late")


def too_many_tries(history: History) -> None:
    offset = history.record("t5")
    for attempt in range(1, 5):
        history.claim("t5", attempt, offset)
    history.publish(history.finish("t5", 4))


def poison_without_a_letter(history: History) -> None:
    history.claim("t5", offset=history.record("t5"))
    history.publish(history.finish("t5", outcome="failed", text="", frame={"code": "poison"}))


PLANTED: dict[Plant, set[Kind]] = {
    lost: {Kind.LOST},
    lost_as_the_last: {Kind.LOST},
    not_moved: {Kind.LOST},
    commit_ahead: {Kind.COMMIT_AHEAD},
    published_but_not_ended: {Kind.NO_TERMINAL},
    ended_but_not_published: {Kind.NO_TERMINAL},
    forgotten_by_the_close: {Kind.NO_TERMINAL},
    unfinished: {Kind.UNFINISHED},
    two_in_the_journal: {Kind.TWO_TERMINALS, Kind.DOUBLED},
    two_on_the_replies: {Kind.TWO_TERMINALS},
    doubled: {Kind.DOUBLED, Kind.TWO_TERMINALS},
    run_again: {Kind.DOUBLED, Kind.TWO_TERMINALS},
    gap: {Kind.GAP},
    unset_without_a_close: {Kind.GAP},
    double_version: {Kind.DOUBLE_VERSION},
    double_nonce: {Kind.DOUBLE_VERSION},
    stray_step: {Kind.STRAY_ENTRY},
    stray_claim: {Kind.STRAY_ENTRY},
    settled_while_it_runs: {Kind.STRAY_ENTRY, Kind.DOUBLED},
    not_opened: {Kind.STRAY_ENTRY},
    stranger: {Kind.STRANGER},
    unreadable: {Kind.UNREADABLE_ENTRY},
    reordered: {Kind.REORDERED},
    frames_reordered: {Kind.FRAMES_REORDERED},
    overlap: {Kind.OVERLAP},
    old_attempt: {Kind.LOSER_WROTE},
    same_attempt_claimed_twice: {Kind.LOSER_WROTE},
    other_writer: {Kind.LOSER_WROTE},
    step_twice: {Kind.STEP_TWICE},
    step_not_kept: {Kind.STEP_NOT_KEPT},
    terminal_differs: {Kind.TERMINAL_DIFFERS},
    outcome_differs: {Kind.TERMINAL_DIFFERS},
    delta_lost: {Kind.STREAM_DIFFERS},
    stream_without_its_reset: {Kind.STREAM_DIFFERS},
    two_texts_in_one_place: {Kind.STREAM_DIFFERS},
    history_differs: {Kind.HISTORY_DIFFERS},
    snapshot_behind_its_version: {Kind.SNAPSHOT_DIFFERS},
    snapshot_with_other_words: {Kind.SNAPSHOT_DIFFERS},
    snapshot_of_the_future: {Kind.SNAPSHOT_DIFFERS},
    snapshot_left: {Kind.CONTENT_LEFT},
    rows_left: {Kind.CONTENT_LEFT},
    call_without_result: {Kind.ORPHAN_TOOL_CALL},
    result_without_call: {Kind.ORPHAN_TOOL_CALL},
    steer_lost: {Kind.STEER_LOST},
    not_answered: {Kind.NO_ACK},
    applied_to_no_avail: {Kind.CANCEL_BROKEN},
    held_to_no_avail: {Kind.CANCEL_BROKEN},
    too_late_for_nothing: {Kind.CANCEL_BROKEN},
    too_many_tries: {Kind.TOO_MANY_TRIES},
    poison_without_a_letter: {Kind.NO_LETTER},
}
BESIDE = {
    Kind.CONTENT_LEFT,
    Kind.NO_TERMINAL,
    Kind.UNFINISHED,
    Kind.COMMIT_AHEAD,
    Kind.STRAY_ENTRY,
    Kind.FRAMES_REORDERED,
    Kind.LOST,
}
"""What some of them break as well."""


def test_a_clean_history_has_no_finding() -> None:
    verdict = clean().verdict()

    assert verdict.findings == []
    assert (verdict.turns, verdict.pending, verdict.entries, verdict.records) == (4, 0, 9, 5)
    assert verdict.outcomes == {"completed": 3, "cancelled": 1}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_defect_is_named(plant: Plant) -> None:
    history = clean()
    plant(history)
    verdict = history.verdict()

    found = {finding.kind for finding in verdict.findings}
    assert PLANTED[plant] <= found <= PLANTED[plant] | BESIDE
    assert not verdict.clean


def test_every_kind_has_a_planted_defect_and_a_promise() -> None:
    assert set().union(*PLANTED.values()) == set(Kind) == set(MEANINGS)
    assert all(meaning.promise[0] == "P" and meaning.promise[1:].isdigit() for meaning in MEANINGS.values())


def test_a_finding_tells_the_promise_and_the_turns_events_in_order() -> None:
    history = clean()
    two_on_the_replies(history)
    finding = history.verdict().findings[0]

    assert (finding.promise, finding.tenant, finding.session, finding.turn) == ("P1", "default", "s1", "t1")
    assert finding.as_json()["promise"] == "P1"
    assert [event.split(" at ")[0] for event in finding.events] == [
        f"agent.turns/{HOME}@0 record committed",
        f"agent.turns/{HOME}@2 record committed",
        "journal v1 CLAIM",
        "journal v2 FINISH",
        "agent.replies/0@0 delta attempt 1 seq 7",
        "agent.replies/0@1 delta attempt 1 seq 8",
        "agent.replies/0@2 completed attempt 1 seq 9",
        "agent.replies/0@15 failed attempt 1 seq 9",
    ]


def test_what_is_under_way_is_no_breach() -> None:
    history = clean()
    history.committed = len(history.turns)
    history.record("t5")
    history.claim("t5", offset=history.record("t5"))
    history.record("t6")
    verdict = history.verdict(settled=False)

    assert verdict.clean
    assert verdict.pending == 2


@pytest.mark.parametrize(("settled", "breaches"), [(False, set[Kind]()), (True, {Kind.NO_TERMINAL, Kind.UNFINISHED})])
def test_of_a_turn_that_was_suspended_a_commit_says_nothing_while_the_fleet_is_at_work(
    settled: bool, breaches: set[Kind]
) -> None:
    """Its record is committed with the SUSPEND; replies are read before the journal, which knows more of it."""
    history = clean()
    for turn in ("t5", "t6"):
        offset = history.record(turn)
        history.claim(turn, offset=offset)
        history.row("suspend", {"turn": turn, "attempt": 1, "call": f"{turn}.0", "deadline_ms": 9, "step": "ask"})
        history.claim(turn, 2, offset)
        if turn == "t5":
            history.finish(turn, 2)
    history.committed = len(history.turns)
    found = history.verdict(settled=settled)

    assert {finding.kind for finding in found.findings} == breaches


def test_a_refused_record_is_no_turn() -> None:
    history = clean()
    history.letter(history.record("t5"))
    history.letter(history.record("t1"), "conflict")

    assert history.verdict().clean


def test_a_deleted_session_is_known_by_its_keys_alone() -> None:
    history = clean()
    history.claim("t5", offset=history.record("t5"))
    history.close("t5")
    history.publish(history.rows[-1].frames[0])
    history.unset(*range(1, 11))
    history.turn("t6")
    verdict = history.verdict()

    assert verdict.findings == []
    assert verdict.outcomes == {"gone": 4, "cancelled": 1, "completed": 1}


def test_after_the_sweep_a_log_begins_late() -> None:
    history = clean()
    history.close()
    history.turn("t6")
    history.unset(*range(1, 10))
    history.rows = history.rows[5:]

    assert {finding.kind for finding in history.verdict().findings} <= {Kind.LOST, Kind.NO_TERMINAL}
    assert Kind.GAP not in history.verdict().kinds


def test_what_retention_has_taken_of_the_replies_is_not_missed() -> None:
    history = clean()
    history.frames = history.frames[3:]
    history.whole = False

    assert history.verdict().clean


def test_a_turn_that_steers_ends_with_the_one_that_it_joined() -> None:
    history = clean()
    steered(history, kept=True)

    assert history.verdict().findings == []


def test_a_held_cancel_of_somebody_else_binds_nobody() -> None:
    history = clean()
    history.cancel("t1", "o5", user="other", state="held")

    assert history.verdict().clean


def test_a_snapshot_that_holds_what_the_journal_amounts_to_is_fine() -> None:
    history = clean()
    history.saved = Saved(7, 3, 6, (tool("t2", "c1"), assistant("t2", "text", 3)))

    assert history.verdict().clean


def test_a_verdict_keeps_some_findings_and_counts_all() -> None:
    one, other = Verdict(), Verdict()
    for verdict in (one, other):
        for _ in range(KEPT):
            verdict.add(Finding(Kind.GAP, "t", "s", None, "gone"))
    one.merge(other)

    assert (one.broken, len(one.findings), one.kinds) == (2 * KEPT, KEPT, {Kind.GAP: 2 * KEPT})


def test_a_step_that_is_durable_and_was_never_shown_is_in_the_answer_of_a_turn_that_ended_without_another_run() -> None:
    history = History()
    history.claim("t1", offset=history.record("t1"))
    history.delta("t1", 1, "kept ", 0)
    history.step("t1", 0)
    history.publish(history.finish("t1", 1, text="kept text", seq=0, outcome="cancelled"))
    assert history.verdict().findings == []
