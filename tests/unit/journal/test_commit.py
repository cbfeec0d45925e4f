"""Group commit: what goes together, what is settled, what is never said. The twin's gate makes the answers bad."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from journal.commit import MAX_ROW, GroupCommit
from journal.gate import Call
from journal.memory import MemoryJournal
from journal.port import Row, StoreUnavailable, Verdict

A, C, K = Verdict.APPLIED, Verdict.COLLIDED, Verdict.KNOWN


class Script:
    """A gate that does at the n-th call of an operation what it is told, and no sleep that takes time."""

    def __init__(self) -> None:
        self.acts: dict[tuple[str, str, int], Callable[[], Awaitable[None]]] = {}
        self.calls: dict[tuple[str, str], int] = {}
        self.slept: list[float] = []

    async def __call__(self, call: Call) -> None:
        await asyncio.sleep(0)
        n = self.calls[call.operation, call.phase] = self.calls.get((call.operation, call.phase), 0) + 1
        act = self.acts.get((call.operation, call.phase, n))
        if act is not None:
            await act()

    def at(self, operation: str, phase: str, *which: int) -> Callable[[Callable[[], Awaitable[None]]], None]:
        def put(act: Callable[[], Awaitable[None]]) -> None:
            for n in which:
                self.acts[operation, phase, n] = act

        return put

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


async def no_answer() -> None:
    raise StoreUnavailable("planted")


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def journal(script: Script) -> MemoryJournal:
    return MemoryJournal(script)


class Heard:
    """Verdicts by session, in the order in which they came."""

    def __init__(self) -> None:
        self.verdicts: dict[str, list[Verdict]] = {}

    def of(self, s: str) -> Callable[[Verdict], None]:
        return lambda verdict: self.verdicts.setdefault(s, []).append(verdict)


def row(s: str, v: int = 1, *, nonce: str = "mine", turn: str | None = None, body: str = "{}") -> Row:
    return Row(s, v, "step", nonce, 1, turn=turn, body=body)


def sent(commit: GroupCommit, heard: Heard, *rows: Row) -> None:
    for one in rows:
        commit.append(one, heard.of(one.s))


async def test_what_is_appended_in_one_go_is_one_command(journal: MemoryJournal, script: Script) -> None:
    sizes: list[int] = []
    heard, commit = Heard(), GroupCommit(journal, sizes=sizes.append, sleep=script.sleep)
    sent(commit, heard, *(row(f"s{n}") for n in range(50)))
    assert commit.waiting == 50

    await commit.drain()

    assert sizes == [50]
    assert heard.verdicts == {f"s{n}": [A] for n in range(50)}
    assert len(journal.rows) == 50


async def test_a_command_has_a_limit_and_only_so_many_are_out(journal: MemoryJournal, script: Script) -> None:
    sizes: list[int] = []
    out: list[int] = []
    heard, commit = Heard(), GroupCommit(journal, max_rows=10, in_flight=2, sizes=sizes.append, sleep=script.sleep)

    async def look() -> None:
        out.append(commit.in_flight)

    script.at("insert", "before", 1, 2, 3, 4)(look)
    sent(commit, heard, *(row(f"s{n}") for n in range(35)))
    await commit.drain()

    assert sizes == [10, 10, 10, 5]
    assert max(out) == 2
    assert commit.in_flight == 0
    assert [row.s for row in journal.rows.values()] == [f"s{n}" for n in range(35)]


async def test_a_command_never_outgrows_what_a_message_holds(journal: MemoryJournal, script: Script) -> None:
    sizes: list[int] = []
    heard, commit = Heard(), GroupCommit(journal, sizes=sizes.append, sleep=script.sleep)
    sent(commit, heard, *(row(f"s{n}", body="x" * 3_000_000) for n in range(5)))
    await commit.drain()

    assert sizes == [2, 2, 1]
    assert len(journal.rows) == 5
    with pytest.raises(ValueError, match="do not fit"):
        commit.append(row("big", body="x" * MAX_ROW), heard.of("big"))


async def test_a_session_has_one_append_in_flight(journal: MemoryJournal, script: Script) -> None:
    heard, commit = Heard(), GroupCommit(journal, sleep=script.sleep)
    sent(commit, heard, row("s"))
    with pytest.raises(RuntimeError, match="in flight"):
        sent(commit, heard, row("s", 2))
    await asyncio.sleep(0)  # now it is out
    with pytest.raises(RuntimeError, match="in flight"):
        sent(commit, heard, row("s", 2))
    await commit.drain()

    sent(commit, heard, row("s", 2))
    await commit.drain()
    assert heard.verdicts == {"s": [A, A]}


async def test_the_next_append_may_be_made_in_the_verdict_of_the_last(journal: MemoryJournal, script: Script) -> None:
    commit = GroupCommit(journal, sleep=script.sleep)
    done = asyncio.Event()

    def appended(verdict: Verdict, v: int = 1) -> None:
        assert verdict is A
        if v == 5:
            done.set()
        else:
            commit.append(row("s", v + 1), lambda verdict: appended(verdict, v + 1))

    commit.append(row("s", 1), appended)
    await done.wait()

    assert [v for _, v in journal.rows] == [1, 2, 3, 4, 5]


async def test_a_lost_command_is_sent_again(journal: MemoryJournal, script: Script) -> None:
    script.at("insert", "before", 1, 2, 3)(no_answer)
    heard, commit = Heard(), GroupCommit(journal, sleep=script.sleep)
    sent(commit, heard, row("a"), row("b"))
    await commit.drain()

    assert heard.verdicts == {"a": [A], "b": [A]}
    assert len(journal.rows) == 2
    assert script.slept == [0.05, 0.1, 0.2]


async def test_pauses_grow_to_a_limit_and_sending_never_ends(journal: MemoryJournal, script: Script) -> None:
    script.at("insert", "before", *range(1, 40))(no_answer)
    heard, commit = Heard(), GroupCommit(journal, sleep=script.sleep)
    sent(commit, heard, row("a"))
    await commit.drain()

    assert heard.verdicts == {"a": [A]}
    assert len(script.slept) == 39
    assert max(script.slept) == 1.0


async def test_an_answer_that_was_lost_is_found_by_the_nonce(journal: MemoryJournal, script: Script) -> None:
    script.at("insert", "after", 1)(no_answer)
    heard, commit = Heard(), GroupCommit(journal, sleep=script.sleep)
    sent(commit, heard, row("a", turn="t"), row("b"))
    await commit.drain()

    assert heard.verdicts == {"a": [A], "b": [A]}
    assert len(journal.rows) == 2


async def test_another_writers_row_is_a_collision(journal: MemoryJournal, script: Script) -> None:
    journal.apply([row("a", nonce="theirs"), row("b", 7, nonce="theirs", turn="t")])
    heard, commit = Heard(), GroupCommit(journal, sleep=script.sleep)
    sent(commit, heard, row("a"), row("b", 8, turn="t"), row("c"))
    await commit.drain()

    assert heard.verdicts == {"a": [C], "b": [K], "c": [A]}


async def test_a_lost_answer_and_another_writer_is_a_collision(journal: MemoryJournal, script: Script) -> None:
    async def other_writes_first() -> None:
        journal.apply([row("a", nonce="theirs")])
        raise StoreUnavailable("planted")

    script.at("insert", "before", 1)(other_writes_first)
    heard, commit = Heard(), GroupCommit(journal, sleep=script.sleep)
    sent(commit, heard, row("a"))
    await commit.drain()

    assert heard.verdicts == {"a": [C]}


async def test_a_copy_that_arrives_late_is_mine(journal: MemoryJournal, script: Script) -> None:
    mine = row("a", turn="t")

    async def arrives() -> None:
        journal.apply([mine])

    script.at("insert", "before", 1)(no_answer)
    script.at("insert", "before", 2)(arrives)
    heard, commit = Heard(), GroupCommit(journal, sleep=script.sleep)
    sent(commit, heard, mine)
    await commit.drain()

    assert heard.verdicts == {"a": [A]}


async def test_e11000_and_nothing_to_read_is_sent_again(journal: MemoryJournal, script: Script) -> None:
    """A fail-over rolled the other row back: the key was there, a majority never had it."""
    journal.apply([row("a", nonce="theirs"), row("b", nonce="theirs", turn="t")])

    async def rolled_back() -> None:
        journal.rows.clear()
        journal.turns.clear()

    script.at("row", "before", 1)(rolled_back)
    heard, commit = Heard(), GroupCommit(journal, sleep=script.sleep)
    sent(commit, heard, row("a"), row("b", 2, turn="t"))
    await commit.drain()

    assert heard.verdicts == {"a": [A], "b": [A]}
    assert script.calls["insert", "after"] == 2
    assert {one.nonce for one in journal.rows.values()} == {"mine"}


async def test_reading_after_e11000_is_repeated_until_answered(journal: MemoryJournal, script: Script) -> None:
    journal.apply([row("a", nonce="theirs"), row("b", 7, turn="t")])
    script.at("row", "before", 1, 3)(no_answer)
    script.at("introduced", "after", 1)(no_answer)
    heard, commit = Heard(), GroupCommit(journal, sleep=script.sleep)
    sent(commit, heard, row("a"), row("b", 8, turn="t"))
    await commit.drain()

    assert heard.verdicts == {"a": [C], "b": [K]}


async def test_settling_one_row_holds_up_no_other(journal: MemoryJournal, script: Script) -> None:
    journal.apply([row("a", nonce="theirs")])
    go = asyncio.Event()

    async def wait() -> None:
        await go.wait()

    script.at("row", "before", 1)(wait)
    heard, commit = Heard(), GroupCommit(journal, in_flight=1, sleep=script.sleep)
    sent(commit, heard, row("a"))
    while ("row", "before") not in script.calls:
        await asyncio.sleep(0)
    sent(commit, heard, row("b"))
    while "b" not in heard.verdicts:
        await asyncio.sleep(0)

    assert heard.verdicts == {"b": [A]}
    go.set()
    await commit.drain()
    assert heard.verdicts == {"b": [A], "a": [C]}


async def test_what_was_withdrawn_before_it_was_sent_is_not_sent(journal: MemoryJournal, script: Script) -> None:
    heard, commit = Heard(), GroupCommit(journal, sleep=script.sleep)
    sent(commit, heard, row("a"), row("b"))
    commit.withdraw("a")
    commit.withdraw("nobody")
    await commit.drain()

    assert heard.verdicts == {"b": [A]}
    assert [s for s, _ in journal.rows] == ["b"]


async def test_a_verdict_that_comes_after_a_withdrawal_is_not_delivered(journal: MemoryJournal, script: Script) -> None:
    heard = Heard()
    commit = GroupCommit(journal, sleep=script.sleep)

    async def withdraw() -> None:
        commit.withdraw("a")

    script.at("insert", "before", 1)(withdraw)
    sent(commit, heard, row("a"), row("b"))
    await commit.drain()

    assert heard.verdicts == {"b": [A]}
    sent(commit, heard, row("a", nonce="later"))  # the session was loaded again meanwhile
    await commit.drain()
    assert heard.verdicts == {"b": [A], "a": [C]}


async def test_a_withdrawn_row_is_not_sent_again_nor_confused_with_a_later_one(
    journal: MemoryJournal, script: Script
) -> None:
    heard = Heard()
    commit = GroupCommit(journal, in_flight=1, sleep=script.sleep)

    async def withdraw() -> None:
        commit.withdraw("a")
        sent(commit, heard, row("a", nonce="later"))
        raise StoreUnavailable("planted")

    script.at("insert", "before", 1)(withdraw)
    sent(commit, heard, row("a", nonce="first"), row("b"))
    await commit.drain()

    assert heard.verdicts == {"b": [A], "a": [A]}
    assert journal.rows["a", 1].nonce == "later"


async def test_stopping_waits_for_what_is_out_and_sends_nothing_more(journal: MemoryJournal, script: Script) -> None:
    heard, commit = Heard(), GroupCommit(journal, max_rows=1, in_flight=1, sleep=script.sleep)
    sent(commit, heard, row("a"), row("b"))
    await asyncio.sleep(0)
    assert (commit.in_flight, commit.waiting) == (1, 1)

    await commit.stop()

    assert list(journal.rows) == [("a", 1)]
    assert heard.verdicts == {}
    assert commit.in_flight == 0


async def test_stopping_does_not_wait_for_a_store_that_never_answers(journal: MemoryJournal) -> None:
    script = Script()
    journal.gate = script
    script.at("insert", "before", *range(1, 99))(no_answer)
    asleep = asyncio.Event()

    async def for_ever(_seconds: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    heard, commit = Heard(), GroupCommit(journal, sleep=for_ever)
    sent(commit, heard, row("a"))
    await asleep.wait()

    await commit.stop()

    assert script.calls["insert", "before"] == 1


async def test_a_refusal_of_the_store_breaks_the_group_commit(journal: MemoryJournal, script: Script) -> None:
    async def refuse() -> None:
        raise LookupError("planted")

    script.at("insert", "before", 1)(refuse)
    heard, commit = Heard(), GroupCommit(journal, sleep=script.sleep)
    sent(commit, heard, row("a"))

    with pytest.raises(LookupError, match="planted"):
        await commit.broken()
    with pytest.raises(LookupError, match="planted"):
        await commit.drain()
    assert heard.verdicts == {}


async def test_a_callers_bug_keeps_no_verdict_from_others(journal: MemoryJournal, script: Script) -> None:
    def bug(verdict: Verdict) -> None:
        raise LookupError("planted")

    heard, commit = Heard(), GroupCommit(journal, sleep=script.sleep)
    commit.append(row("a"), bug)
    sent(commit, heard, row("b"))

    with pytest.raises(LookupError, match="planted"):
        await commit.broken()
    assert heard.verdicts == {"b": [A]}
