"""Every promise that has a proof, a bug that breaks it, and the test that must go red.

Two kinds. `plant` None: the test plants its bug itself and asserts that it is found, so it must pass. Else the bug is
planted before the test's process collects anything, and the test must fail.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from unittest.mock import patch

from journal.commit import GroupCommit
from journal.port import StoreUnavailable, Verdict
from tests.support.planted import frames_passed_on_twice, no_answer_taken_for_accepted
from tests.support.planted_agents import (
    a_passed_branch_is_missed,
    branches_not_replayed,
    everybody_may,
    helpers_files_are_lost,
    nobody_is_asked,
    nothing_is_kept,
)
from tests.support.planted_agents import tools_called_without_an_intent as without_an_intent
from workers.executor import RunningTurn
from workers.models.budget import RetryBudget
from workers.progress import Progress
from workers.questions import Questions
from workers.session import Session
from workers.system import ActorSystem

Plant = Callable[[], AbstractContextManager[Any]]
_SEEDS = "tests/simulation/test_simulation.py::test_a_planted_bug_is_found"
_ANEW = "tests/simulation/test_simulation.py::test_a_planted_bug_of_new_topics_is_found[new_topic_not_noticed]"
_FRONT = "tests/simulation/test_simulation.py::test_a_planted_bug_of_the_gateway_is_found"
_SCOPES = "tests/explorer/test_explorer.py::test_a_planted_bug_is_found_by_a_short_trace_that_can_be_replayed"
_HISTORY = "tests/simulation/test_history_checker.py::test_a_planted_bug_is_found_in_topics_and_store"


class Mutant(NamedTuple):
    """`promise`: of the project's list; `test`: a node id of pytest."""

    promise: str
    name: str
    test: str
    plant: Plant | None = None


def cancel_as_a_flag_only() -> Any:
    def flagged(self: RunningTurn, why: Any) -> None:
        self._stop = why

    return patch.object(RunningTurn, "_stop_for", flagged)


def terminal_made_anew() -> Any:
    terminal = Questions._terminal

    def anew(self: Questions, frame: str, *rest: Any) -> None:
        terminal(self, frame.replace('"at_ms":', '"at_ms":1'), *rest)

    return patch.object(Questions, "_terminal", anew)


def no_pause_on_assignment() -> Any:
    return patch.object(ActorSystem, "apply_pauses", lambda self: None)


def retries_without_a_budget() -> Any:
    return patch.object(RetryBudget, "take", lambda self: True)


def nothing_released_at_a_drain() -> Any:
    return patch.object(Session, "release_entry", lambda self, now_ms: None)


def steps_not_replayed() -> Any:
    resume = Progress._resume

    def forgetful(self: Progress, *of: Any) -> None:
        resume(self, *of)
        self._held.clear()

    return patch.object(Progress, "_resume", forgetful)


def expired_turns_run() -> Any:
    settled = Session._settled_instead

    def timeless(self: Session, mail: Any, terms: Any, state: Any, now_ms: int) -> bool:
        return settled(self, mail, terms, state, 0)

    return patch.object(Session, "_settled_instead", timeless)


def no_answer_taken_for_applied() -> Any:
    async def sent(self: GroupCommit, items: list[Any]) -> Any:
        try:
            return items, await self._journal.insert([item[0] for item in items])
        except StoreUnavailable:
            return items, [Verdict.APPLIED] * len(items)

    return patch.object(GroupCommit, "_send", sent)


ALL = (
    Mutant("P1", "no republishing on redelivery", f"{_SEEDS}[nothing_published_again]"),
    Mutant("P1", "no republishing on redelivery (B4)", f"{_SCOPES}[B4]"),
    Mutant("P1", "watermark not contiguous", f"{_SEEDS}[watermark_with_holes]"),
    Mutant("P1", "commit before finish", f"{_SEEDS}[marked_at_the_claim]"),
    Mutant("P1", "commit before finish (B10)", f"{_SCOPES}[B10]"),
    Mutant("P1", "offset marked on a collision", f"{_SEEDS}[marked_on_a_collision]"),
    Mutant("P1", "offset marked on a collision (B2)", f"{_SCOPES}[B2]"),
    Mutant("P1", "turn dropped because of its offset (B3)", f"{_SCOPES}[B3]"),
    Mutant("P1", "closed before the frames are out (J6)", f"{_SCOPES}[J6]"),
    Mutant("P1", "what joined a failed turn is not said", f"{_SEEDS}[steers_taken_for_heard]"),
    Mutant("P1", "timer deleted too early (B6)", f"{_SCOPES}[B6]"),
    Mutant("P1", "timer deleted by the question it is for (J10)", f"{_SCOPES}[J10]"),
    Mutant("P1", "what is parked behind a turn forgotten (J3)", f"{_SCOPES}[J3]"),
    Mutant("P1", "a question is not asked again (J8)", f"{_SCOPES}[J8]"),
    Mutant("P2", "collision ignored", f"{_SEEDS}[collision_ignored]"),
    Mutant("P2", "collision ignored, seen from topics and store", f"{_HISTORY}[collision_ignored]"),
    Mutant("P2", "keys freed at deletion (B1)", f"{_SCOPES}[B1]"),
    Mutant("P2", "terminal frame made anew", "tests/simulation/test_simulation.py", terminal_made_anew),
    Mutant("P2", "what a session keeps is forgotten", "tests/unit/journal/test_state.py", nothing_is_kept),
    Mutant("P2", "a helper's files are lost", "tests/unit/workers/agents/one/test_one.py", helpers_files_are_lost),
    Mutant("P3", "frames published again side by side", f"{_SEEDS}[repeats_side_by_side]"),
    Mutant("P3", "a take-over waits for no frames (M5)", f"{_SCOPES}[M5]"),
    Mutant("P3", "a resumed turn's frame is not published again first (M8)", f"{_SCOPES}[M8]"),
    Mutant("P3", "nothing is held back in quarantine (S3)", f"{_SCOPES}[S3]"),
    Mutant("P4", "no proof of membership (B7)", f"{_SCOPES}[B7]"),
    Mutant("P4", "frame published by a loser (B5b)", f"{_SCOPES}[B5b]"),
    Mutant("P5", "turn identity ignored", f"{_SEEDS}[identity_ignored]"),
    Mutant("P5", "a topic that was made anew is not noticed", _ANEW),
    Mutant("P5", "other content taken for a copy", f"{_SEEDS}[conflict_taken_for_a_copy]"),
    Mutant("P5", "a known turn taken for a collision (J9)", f"{_SCOPES}[J9]"),
    Mutant("P6", "intents ignored", f"{_SEEDS}[intents_ignored]"),
    Mutant("P6", "a tool is called without an intent", "tests/unit/workers/tools/test_calling.py", without_an_intent),
    Mutant("P6", "branches are not replayed", "tests/unit/workers/test_branch.py", branches_not_replayed),
    Mutant("P6", "a delegated call's branch is missed", "tests/unit/workers/test_branch.py", a_passed_branch_is_missed),
    Mutant("P7", "frames passed on twice", "tests/unit/gateway/test_reader.py", frames_passed_on_twice),
    Mutant("P7", "frames before `recovered`", f"{_FRONT}[followed_at_once]"),
    Mutant("P8", "a settled cancel forgotten (M1)", f"{_SCOPES}[M1]"),
    Mutant("P8", "cancel as a flag only", "tests/unit/workers/test_executor.py", cancel_as_a_flag_only),
    Mutant("P9", "an expired turn runs", "tests/unit/workers/test_session.py", expired_turns_run),
    Mutant("P9", "no pause on assignment", "tests/integration/test_memory_budget.py", no_pause_on_assignment),
    Mutant("P10", "nothing released at a drain", "tests/integration/test_drain.py", nothing_released_at_a_drain),
    Mutant("P11", "steps not replayed", "tests/simulation/test_crashes.py", steps_not_replayed),
    Mutant("P12", "attempts counted after running", f"{_SEEDS}[attempts_not_counted]"),
    Mutant("P12", "retry without budget", "tests/property/test_amplification.py", retries_without_a_budget),
    Mutant(
        "P13", "no answer taken for accepted", "tests/integration/test_gateway_socket.py", no_answer_taken_for_accepted
    ),
    Mutant("P13", "unknown taken for failed", f"{_FRONT}[unknown_taken_for_failed]"),
    Mutant("P14", "no answer taken for applied", "tests/property/test_group_commit.py", no_answer_taken_for_applied),
    Mutant("P16", "a stranger's turn begins", f"{_SEEDS}[a_strangers_turn_begins]"),
    Mutant("P16", "a stranger's op is obeyed", f"{_SEEDS}[strangers_obeyed]"),
    Mutant("P16", "a known op id is answered to anybody", f"{_SEEDS}[known_op_of_anybody]"),
    Mutant("P16", "a stranger's turn begins (M6)", f"{_SCOPES}[M6]"),
    Mutant("P16", "a stranger's cancel ends a turn (M7)", f"{_SCOPES}[M7]"),
    Mutant("P18", "everybody may use a tool", "tests/corpus/test_obedience.py", everybody_may),
    Mutant("P18", "nobody is asked", "tests/corpus/test_obedience.py", nobody_is_asked),
)
