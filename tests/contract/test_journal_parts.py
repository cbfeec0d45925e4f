"""What snapshots, directory, timers and profiles promise, real mongod and twin alike."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from pydantic import JsonValue

from journal.port import LetterMark, LetterState, Listed, Saving, Store, Timer
from schemas.entries import Open
from schemas.history import HistoryItem, said
from schemas.parts import DataPart
from schemas.profile import Profile
from schemas.snapshot import AheadCancel, Chunk, Closed, EndedTurn, SeenOp, Snapshot

OPEN = Open(at_ms=1, user="u", agent="echo", agent_version="1")


def item(n: int) -> HistoryItem:
    return said(item=f"t{n}~0", turn=f"t{n}", role="user", text=f"text {n}", at_ms=n)


def snapshot(version: int, *, opened: Open | None = OPEN, chunks: int = 0, text: int = 0) -> Snapshot:
    return Snapshot(
        version=version,
        base=1,
        opened=opened,
        turns=3,
        last_ms=9,
        chunks=chunks,
        items=(item(text),),
        over=(EndedTurn(turn="a", outcome="failed", version=2, digest="d"),),
        ops=(SeenOp(op="o", version=3),),
        ahead=(AheadCancel(turn="b", user="u", op="p"),),
        closed=Closed(version=1, reason="delete", at_ms=1),
    )


def chunk(index: int, *, base: int = 1) -> Chunk:
    data = DataPart(data={"$a.b": [1, 2.5, None, {"c": "ü"}]})
    other = HistoryItem(id=f"x{index}", turn="x", role="tool", parts=(data,), at_ms=1, call="c")
    return Chunk(base=base, index=index, first=2 * index, items=(item(index), other))


async def test_a_snapshot_comes_back_as_it_went_in(store: Store) -> None:
    assert await store.snapshots.load("t/s") is None
    await store.snapshots.save([Saving("t/s", snapshot(5, chunks=2), [chunk(0), chunk(1)])])

    assert await store.snapshots.load("t/s") == snapshot(5, chunks=2)
    assert await store.snapshots.chunks("t/s", 1, 2) == [chunk(0), chunk(1)]
    assert await store.snapshots.load("t/other") is None


async def test_only_a_higher_version_replaces_a_snapshot(store: Store) -> None:
    await store.snapshots.save([Saving("t/s", snapshot(5), [])])
    await store.snapshots.save([Saving("t/s", snapshot(4, text=4), [chunk(0)])])
    await store.snapshots.save([Saving("t/s", snapshot(5, text=5), [])])

    assert await store.snapshots.load("t/s") == snapshot(5)
    assert await store.snapshots.chunks("t/s", 1, 9) == []

    await store.snapshots.save([Saving("t/s", snapshot(6, text=6), [])])
    assert await store.snapshots.load("t/s") == snapshot(6, text=6)


async def test_snapshots_of_many_sessions_are_saved_together_and_a_lower_one_spoils_none(store: Store) -> None:
    await store.snapshots.save([Saving("t/b", snapshot(9))])
    lower = Saving("t/b", snapshot(4, text=4), [chunk(0)])
    await store.snapshots.save([Saving("t/a", snapshot(5, chunks=1), [chunk(0)]), lower, Saving("t/c", snapshot(2))])

    assert await store.snapshots.load("t/a") == snapshot(5, chunks=1)
    assert await store.snapshots.chunks("t/a", 1, 9) == [chunk(0)]
    assert await store.snapshots.load("t/b") == snapshot(9)
    assert await store.snapshots.chunks("t/b", 1, 9) == []
    assert await store.snapshots.load("t/c") == snapshot(2)
    await store.snapshots.save([])


async def test_of_snapshots_saved_at_once_the_highest_stays(store: Store) -> None:
    await asyncio.gather(*(store.snapshots.save([Saving("t/s", snapshot(v, text=v), [])]) for v in (3, 9, 1, 7, 8)))

    assert await store.snapshots.load("t/s") == snapshot(9, text=9)


async def test_chunks_stay_and_lives_and_sessions_are_kept_apart(store: Store) -> None:
    await store.snapshots.save([Saving("t/s", snapshot(5, chunks=12), [chunk(n) for n in range(12)])])
    await store.snapshots.save([Saving("t/s", snapshot(6, chunks=13), [chunk(12)])])
    await store.snapshots.save([Saving("t/s", snapshot(7, chunks=1), [chunk(0, base=7)])])
    await store.snapshots.save([Saving("t/s2", snapshot(7, chunks=1), [chunk(0)])])

    assert await store.snapshots.chunks("t/s", 1, 13) == [chunk(n) for n in range(13)]
    assert await store.snapshots.chunks("t/s", 1, 4) == [chunk(n) for n in range(4)]
    assert await store.snapshots.chunks("t/s", 7, 13) == [chunk(0, base=7)]
    assert await store.snapshots.chunks("t/s", 2, 13) == []


async def test_the_snapshot_of_a_closed_session_leaves_no_chunk(store: Store) -> None:
    await store.snapshots.save([Saving("t/s", snapshot(5, chunks=1), [chunk(0)])])
    await store.snapshots.save([Saving("t/s2", snapshot(5, chunks=1), [chunk(0)])])

    await store.snapshots.save([Saving("t/s", snapshot(6, opened=None), [])])

    assert await store.snapshots.chunks("t/s", 1, 9) == []
    assert await store.snapshots.chunks("t/s2", 1, 9) == [chunk(0)]


async def test_forgetting_leaves_nothing_of_that_session(store: Store) -> None:
    for s in ("t/s", "t/s2"):
        await store.snapshots.save([Saving(s, snapshot(5, chunks=1), [chunk(0)])])

    await store.snapshots.forget("t/s")
    await store.snapshots.forget("t/s")

    assert await store.snapshots.load("t/s") is None
    assert await store.snapshots.chunks("t/s", 1, 1) == []
    assert await store.snapshots.load("t/s2") is not None
    assert await store.snapshots.chunks("t/s2", 1, 1) == [chunk(0)]


def listed(n: int, *, user: str = "u", version: int = 1, last_ms: int = 0, closed_ms: int | None = None) -> Listed:
    return Listed(
        s=f"t/s{n:03}",
        tenant="t",
        session=f"s{n:03}",
        user=user,
        agent="echo",
        agent_version="1",
        turns=n,
        version=version,
        created_ms=1,
        last_ms=last_ms or n,
        expires_ms=100 + n,
        closed_ms=closed_ms,
    )


async def all_of(store: Store, user: str, limit: int) -> list[Listed]:
    found: list[Listed] = []
    page, after = await store.directory.of_user("t", user, limit=limit, after=None)
    found += page
    while after is not None:
        assert len(page) == limit
        page, after = await store.directory.of_user("t", user, limit=limit, after=after)
        found += page
    return found


async def test_sessions_are_listed_latest_first_page_by_page(store: Store) -> None:
    some = [listed(n, last_ms=1 + n // 3) for n in range(10)]  # ties, too
    await store.directory.put([*some, listed(50, user="other"), listed(51, closed_ms=5)])
    await store.directory.put([replace(listed(52), tenant="x")])

    latest_first = sorted(some, key=lambda one: (-one.last_ms, one.s))
    for limit in (1, 3, 5, 10, 11):
        assert await all_of(store, "u", limit) == latest_first
    assert await store.directory.of_user("t", "nobody", limit=3, after=None) == ([], None)
    with pytest.raises(ValueError, match="after"):
        await store.directory.of_user("t", "u", limit=3, after="no token")


async def test_living_sessions_are_counted_by_agent_and_version(store: Store) -> None:
    newer = [replace(listed(n), agent_version="2") for n in (11, 12)]
    await store.directory.put([listed(1), *newer, replace(listed(13), agent="chat"), listed(14, closed_ms=5)])

    assert await store.directory.versions() == {("echo", "1"): 1, ("echo", "2"): 2, ("chat", "1"): 1}


async def test_a_lower_version_never_replaces_a_higher_one(store: Store) -> None:
    await store.directory.put([listed(1, version=5), listed(2, version=5)])
    await store.directory.put([listed(1, version=4, last_ms=77), listed(2, version=6, last_ms=78), listed(3)])
    await store.directory.put([])

    assert [(one.s, one.version, one.last_ms) for one in await all_of(store, "u", 9)] == [
        ("t/s002", 6, 78),
        ("t/s003", 1, 3),
        ("t/s001", 5, 1),
    ]


async def test_of_two_first_writers_the_higher_version_stays(store: Store) -> None:
    for n in range(20):
        await asyncio.gather(*(store.directory.put([listed(n, version=v)]) for v in (3, 9, 1, 7)))

    assert {one.version for one in await all_of(store, "u", 100)} == {9}


async def test_what_expires_and_what_was_closed_is_found_oldest_first(store: Store) -> None:
    await store.directory.put([listed(n) for n in range(5)])
    await store.directory.put([listed(n, closed_ms=1_000 - n) for n in range(10, 15)])

    assert [one.turns for one in await store.directory.due(103, 9)] == [0, 1, 2, 3]
    assert [one.turns for one in await store.directory.due(103, 2)] == [0, 1]
    assert await store.directory.due(99, 9) == []
    assert [one.turns for one in await store.directory.closed_before(989, 9)] == [14, 13, 12]
    assert [one.turns for one in await store.directory.closed_before(989, 1)] == [14]
    assert await store.directory.closed_before(986, 9) == []


async def test_a_session_can_be_closed_opened_again_and_removed(store: Store) -> None:
    await store.directory.put([listed(1)])
    await store.directory.put([listed(1, version=2, closed_ms=7)])
    assert await all_of(store, "u", 9) == []
    assert len(await store.directory.closed_before(8, 9)) == 1

    await store.directory.put([listed(1, version=3)])
    assert await all_of(store, "u", 9) == [listed(1, version=3)]
    assert await store.directory.closed_before(8, 9) == []

    await store.directory.remove("t/s001")
    assert await all_of(store, "u", 9) == []


async def test_a_timer_is_armed_once_found_when_due_and_disarmed(store: Store) -> None:
    one, other, late = Timer("t/s", "a", "c1", 10), Timer("t/s", "a", "c2", 5), Timer("t/s", "b", "c1", 99)
    await store.timers.arm([one, other, late])
    await store.timers.arm([replace(one, due_ms=1), Timer("t/u", "a", "c1", 98)])
    await store.timers.arm([])

    assert await store.timers.due(50, (0,), 9) == [other, one]
    assert await store.timers.due(50, (0, 1), 1) == [other]

    await store.timers.arm([Timer("t/v", "a", "c1", 1, partition=3)])
    assert await store.timers.due(50, (0,), 9) == [other, one]  # not those of other partitions
    assert await store.timers.due(50, (3, 0), 1) == [Timer("t/v", "a", "c1", 1, partition=3)]

    await store.timers.disarm(other)
    await store.timers.disarm(other)
    await store.timers.disarm(replace(one, due_ms=1))  # not the one that was found due
    assert await store.timers.due(50, (0,), 9) == [one]


def mark(letter: str, state: LetterState, turn: str | None = None, at_ms: int = 1) -> LetterMark:
    return LetterMark(letter, state, turn, at_ms)


async def test_the_first_mark_of_a_dead_letter_holds(store: Store) -> None:
    first = mark("agent.turns/1@2", "redriving", "t1", at_ms=5)
    assert await store.letters.put(first) == first
    assert await store.letters.put(mark("agent.turns/1@2", "discarded", at_ms=6)) == first
    assert await store.letters.put(mark("agent.turns/1@2", "redriving", "t2")) == first
    assert await store.letters.of(["agent.turns/1@2", "agent.turns/1@3"]) == {"agent.turns/1@2": first}
    assert await store.letters.of([]) == {}


async def test_of_marks_put_at_once_everybody_is_told_the_same(store: Store) -> None:
    held = await asyncio.gather(*(store.letters.put(mark("a", "redriving", f"t{n}")) for n in range(8)))
    assert len(set(held)) == 1
    assert await store.letters.of(["a"]) == {"a": held[0]}


async def test_what_began_is_completed_as_it_began(store: Store) -> None:
    await store.letters.put(mark("a", "redriving", "t1"))
    await store.letters.put(mark("b", "discarded"))
    await store.letters.put(mark("d", "discarding"))
    for letter in ("a", "a", "b", "c", "d"):
        await store.letters.complete(letter)
    found = await store.letters.of(["a", "b", "c", "d"])
    states = {letter: one.state for letter, one in found.items()}
    assert states == {"a": "redriven", "b": "discarded", "d": "discarded"}
    assert found["a"].turn == "t1"
    assert (await store.letters.put(mark("a", "discarded"))).state == "redriven"


async def test_marks_of_many_letters_are_found_together(store: Store) -> None:
    await store.letters.put(mark("l7", "discarded"))
    await store.letters.put(mark("l2400", "discarded"))
    assert set(await store.letters.of([f"l{n}" for n in range(2_500)])) == {"l7", "l2400"}


def profile(version: int, text: str = "", *, tenant: str = "t", user: str = "u") -> Profile:
    facts: dict[str, JsonValue] = {"$a.b\0": [1, 2.5, None, {"": "ü"}], "big": 2**62}
    return Profile(tenant=tenant, user=user, version=version, summary=text, facts=facts, updated_ms=5)


async def test_a_profile_comes_back_as_it_went_in(store: Store) -> None:
    assert await store.profiles.load("t", "u") is None
    assert await store.profiles.replace(profile(1, "likes tea"))
    assert await store.profiles.load("t", "u") == profile(1, "likes tea")


async def test_a_profile_replaces_the_version_before_it_and_no_other(store: Store) -> None:
    assert not await store.profiles.replace(profile(2))
    assert await store.profiles.load("t", "u") is None
    assert await store.profiles.replace(profile(1, "one"))
    for version in (1, 3, 9):
        assert not await store.profiles.replace(profile(version, "other"))
    assert await store.profiles.load("t", "u") == profile(1, "one")
    assert await store.profiles.replace(profile(2, "two"))
    assert await store.profiles.load("t", "u") == profile(2, "two")


async def test_of_profiles_replaced_at_once_one_wins(store: Store) -> None:
    for version in (1, 2):
        won = await asyncio.gather(*(store.profiles.replace(profile(version, f"{n}")) for n in range(8)))
        held = await store.profiles.load("t", "u")
        assert won.count(True) == 1
        assert held == profile(version, f"{won.index(True)}")


async def test_profiles_of_tenants_and_users_are_kept_apart(store: Store) -> None:
    whose = [("t", "u"), ("t2", "u"), ("t", "u2"), ("t", "t/u"), ("t.t", "u"), ("t", "U"), ("t", "ü {}$")]
    for tenant, user in whose:
        assert await store.profiles.replace(profile(1, f"{tenant} {user}", tenant=tenant, user=user))
    for tenant, user in whose:
        held = await store.profiles.load(tenant, user)
        assert held is not None
        assert held.summary == f"{tenant} {user}"
