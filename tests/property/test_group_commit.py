"""Two group commits on one journal under any loss, delay and doubt: a verdict is always the truth, and comes once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from journal.commit import GroupCommit
from journal.gate import Call
from journal.memory import MemoryJournal
from journal.port import Row, StoreUnavailable, Verdict

FAULTS = st.sampled_from(["fine", "fine", "fine", "lost", "doubt", "late", "slow", "read lost"])


class Faults:
    """A gate that takes its next fault from a list; when the list is over, all is fine."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = iter(faults)
        self.late: list[Sequence[Row]] = []
        self.journal: MemoryJournal | None = None
        self.fault = "fine"

    async def __call__(self, call: Call) -> None:
        await asyncio.sleep(0)
        if call.phase == "before":
            fault = next(self.faults, "fine")
            if call.operation != "insert":
                if fault == "read lost":
                    raise StoreUnavailable(fault)
                return
            if fault == "late":
                self.late.append(call.arguments[0])
            if fault in ("lost", "late"):
                raise StoreUnavailable(fault)
            for _ in range(7 if fault == "slow" else 0):
                await asyncio.sleep(0)
            self.fault = fault
        elif call.operation == "insert":
            self.arrive()
            if self.fault == "doubt":
                raise StoreUnavailable("doubt")

    def arrive(self) -> None:
        """The copies that were on their way come in, after whatever came before."""
        assert self.journal is not None
        for rows in self.late:
            self.journal.apply(rows)
        self.late.clear()


async def instant(_seconds: float) -> None:
    await asyncio.sleep(0)


async def append(
    commit: GroupCommit, journal: MemoryJournal, s: str, name: str, turns: Sequence[str]
) -> dict[Row, Verdict]:
    """One after the other, each on top of what is read; a collision reads on, a known turn is dropped."""
    said: dict[Row, Verdict] = {}
    waiting = list(turns)
    count = 0
    while waiting:
        count += 1
        v = max((v for of, v in journal.rows if of == s), default=0) + 1
        row = Row(s, v, "claim", f"{name}{count}", 1, turn=waiting[0], body="{}")
        answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        commit.append(row, answer.set_result)  # a second verdict would raise
        said[row] = await answer
        if said[row] is not Verdict.COLLIDED:
            waiting.pop(0)
    return said


async def run(faults: Sequence[str], sessions: int, turns: int) -> None:
    gate = Faults(faults)
    journal = gate.journal = MemoryJournal(gate)
    commits = [GroupCommit(journal, max_rows=3, sleep=instant) for _ in range(2)]
    names = [f"t{n}" for n in range(turns)]
    work = [
        append(commit, journal, f"s{n}", f"w{who}-", names)
        for n in range(sessions)
        for who, commit in enumerate(commits)
    ]
    async with asyncio.timeout(20):
        said = {row: verdict for some in await asyncio.gather(*work) for row, verdict in some.items()}
    gate.arrive()
    for commit in commits:
        await commit.stop()

    stored = set(journal.rows.values())
    assert {row for row, verdict in said.items() if verdict is Verdict.APPLIED} == stored
    for n in range(sessions):
        assert sorted(v for s, v in journal.rows if s == f"s{n}") == list(range(1, turns + 1))
        assert sorted(row.turn or "" for row in stored if row.s == f"s{n}") == sorted(names)


@settings(max_examples=150, deadline=None)
@given(faults=st.lists(FAULTS, max_size=60), sessions=st.integers(1, 5), turns=st.integers(1, 3))
def test_a_verdict_is_the_truth(faults: list[str], sessions: int, turns: int) -> None:
    asyncio.run(run(faults, sessions, turns))
