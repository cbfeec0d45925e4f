"""What a body that is too large for a row promises, real mongod and twin alike."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest

from journal.port import PAYLOAD_CHARS, Row, Store, Verdict, Wanted

LATER_MS = time.time_ns() // 1_000_000 + 3_600_000
LONG = "x" * (PAYLOAD_CHARS + 1)


def row(v: int, body: str | None, *, s: str = "t/s", at_ms: int = 1, frames: tuple[str, ...] = ()) -> Row:
    return Row(s, v, "step", uuid4().hex, at_ms, body=body, frames=frames)


@pytest.mark.parametrize("chars", [PAYLOAD_CHARS, PAYLOAD_CHARS + 1, 1_048_577, 17_000_000])
async def test_a_body_of_any_size_comes_back_as_it_went_in(store: Store, chars: int) -> None:
    """17,000,000 characters are 34 MB here: twice what a document holds."""
    large = row(2, "ü" * chars, frames=("{}",))
    rows = [row(1, "{}"), large, row(3, '{"$a.b":1}')]

    assert await store.journal.insert(rows) == [Verdict.APPLIED] * 3
    assert await store.journal.row("t/s", 2) == large
    assert await store.journal.read("t/s", 0) == rows
    assert (await store.fetch(Wanted({"t/s": 1}, 10))).rows == rows[1:]


async def test_many_at_once_stay_apart(store: Store) -> None:
    rows = [row(v, f"{s}{v}" + LONG, s=s) for s in ("t/a", "t/b") for v in (1, 2)]
    await store.journal.insert(rows)

    assert (await store.fetch(Wanted({"t/a": 0, "t/b": 0}, 10))).rows == rows
    assert await store.journal.read("t/b", 0) == rows[2:]


async def test_the_loser_of_a_version_leaves_the_winners_body_alone(store: Store) -> None:
    winner, loser = row(1, "w" + LONG), row(1, "l" + LONG)
    await store.journal.insert([winner])

    assert await store.journal.insert([loser]) == [Verdict.COLLIDED]
    assert await store.journal.row("t/s", 1) == winner


async def test_the_sweep_removes_what_no_row_holds_once_it_is_old(store: Store) -> None:
    winner, other = row(1, "w" + LONG), row(2, "o" + LONG)
    await store.journal.insert([winner, other])
    await store.journal.insert([row(1, "l" + LONG), row(2, "m" + LONG)])

    assert await store.payloads.sweep(1_000, 10) == 0  # they are younger
    assert await store.payloads.sweep(LATER_MS, 10) == 2
    assert await store.payloads.sweep(LATER_MS, 10) == 0
    assert await store.journal.read("t/s", 0) == [winner, other]


async def test_a_sweep_looks_at_so_many_and_the_next_one_goes_on(store: Store) -> None:
    for v in range(1, 6):
        await store.journal.insert([row(v, LONG)])
    await store.journal.insert([row(5, LONG)])

    found = [await store.payloads.sweep(LATER_MS, 2) for _ in range(6)]  # three of them see all

    assert sum(found) == 1
    assert all(one.body == LONG for one in await store.journal.read("t/s", 0))


async def test_unsetting_removes_payloads_as_well_also_those_of_losers(store: Store) -> None:
    frames = ("secret",)
    await store.journal.insert([row(1, "{}"), row(2, LONG, frames=frames), row(3, "{}"), row(4, LONG), row(5, LONG)])
    await store.journal.insert([row(3, LONG)])

    for _ in range(2):  # idempotent
        await store.journal.unset("t/s", 5)
        assert [(it.v, it.body, it.frames) for it in await store.journal.read("t/s", 0)] == [
            *((v, None, ()) for v in (1, 2, 3, 4)),
            (5, LONG, ()),
        ]
    assert await store.payloads.sweep(LATER_MS, 10) == 0  # nothing was left for it
    assert await store.journal.insert([row(2, LONG)]) == [Verdict.COLLIDED]  # the fence stands


async def test_a_copy_of_an_insert_that_arrives_after_the_unset_brings_nothing_back(store: Store) -> None:
    large = row(1, LONG)
    await store.journal.insert([large])
    await store.journal.unset("t/s", 2)

    assert await store.journal.insert([large]) == [Verdict.COLLIDED]
    assert [one.body for one in await store.journal.read("t/s", 0)] == [None]
    assert await store.payloads.sweep(LATER_MS, 10) == 1
    await store.journal.unset("t/s", 2)
    assert [one.body for one in await store.journal.read("t/s", 0)] == [None]


async def test_dropping_removes_payloads_as_well(store: Store) -> None:
    await store.journal.insert([row(v, LONG) for v in (1, 2, 3)])

    assert await store.journal.drop("t/s", 3, until_ms=9, limit=10) == 2
    assert await store.payloads.sweep(LATER_MS, 10) == 0
    assert [one.v for one in await store.journal.read("t/s", 0)] == [3]
    assert (await store.journal.read("t/s", 0))[0].body == LONG


async def test_another_session_keeps_its_own(store: Store) -> None:
    await store.journal.insert([row(1, LONG), row(1, LONG, s="t/s2"), row(1, LONG, s="t/")])
    await store.journal.unset("t/s", 9)

    for s in ("t/s2", "t/"):
        assert [one.body for one in await store.journal.read(s, 0)] == [LONG]
