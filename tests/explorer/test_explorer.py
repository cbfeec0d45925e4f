"""A session's decisions through every interleaving at small scope: every promise holds, every planted bug is found."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from journal.state import EMPTY
from tests.explorer.__main__ import told
from tests.explorer.bench import APART, IGNORED, PLAIN, QUEUES, SLOTS
from tests.explorer.planted import PLANTED
from tests.explorer.scope import Scope
from tests.explorer.scopes import SHORT, WIDE
from tests.explorer.search import events_of, explore, retold
from tests.explorer.store import Store

MOST_MOVES = 25


@pytest.mark.parametrize("name", SHORT)
def test_every_promise_holds_in_every_state(name: str) -> None:
    report = explore(SHORT[name])
    assert not report.verdict, told(name, report)
    assert report.complete
    assert report.ends > 0
    assert report.states > 500


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found_by_a_short_trace_that_can_be_replayed(name: str) -> None:
    planted = PLANTED[name]
    with planted.plant():
        report = explore(planted.scope, limit=60_000)
        assert planted.says in report.verdict, told(name, report)
        assert len(report.trace) <= MOST_MOVES, told(name, report)
        assert retold(planted.scope, events_of(report.moves), report.verdict).trace == report.trace
    assert not report.complete


def test_a_trace_that_cannot_happen_is_refused() -> None:
    with pytest.raises(ValueError, match=r"poll/0/0 cannot happen after: $"):
        retold(Scope(("T1",)), events_of("poll/0/0 assigned/0/0"))


def test_a_trace_without_a_fault_in_it_says_nothing() -> None:
    report = retold(Scope(("T1",)), events_of("assigned/0/0 poll/0/0"))
    assert report.verdict == ""
    assert report.trace == ["worker 0 is told that the partition is its own", "worker 0 polls T1 @0"]


def test_a_scope_has_the_same_states_in_any_process() -> None:
    command = [sys.executable, "-m", "tests.explorer", "--scope", "cancel twice"]
    said = {
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": chance}, capture_output=True, text=True, check=True
        ).stdout.partition(" states")[0]
        for chance in ("1", "2")
    }
    assert said == {f"cancel twice: nothing wrong [{explore(SHORT['cancel twice']).states:,}"}


def test_all_that_a_session_holds_is_compared() -> None:
    assert sorted(SLOTS) == sorted([*PLAIN, *QUEUES, *APART, *IGNORED])


def test_states_that_differ_have_numbers_that_differ() -> None:
    store = Store()
    assert store.state_id(EMPTY) == store.empty
    assert store.state_id(EMPTY._replace(wiped=False)) != store.empty


def test_no_scope_is_explored_twice() -> None:
    scopes = [str(scope) for scope in (*SHORT.values(), *WIDE.values())]
    assert len(set(scopes)) == len(scopes)
