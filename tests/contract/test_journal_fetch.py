"""What a read of many sessions at once promises, real mongod and twin alike."""

from __future__ import annotations

from uuid import uuid4

from journal.loader import load, material_of
from journal.port import Found, Row, Saving, Store, Wanted
from journal.snapshotting import NOTHING_SAVED, snapshot_write
from journal.state import EMPTY
from schemas.entries import Open
from schemas.history import said
from schemas.snapshot import Chunk, Snapshot
from tests.support.entries import Session

OPEN = Open(at_ms=1, user="u", agent="echo", agent_version="1")
ODD = ("t/s", "t/s ", "t/s2", "t/S", "t/\u00fc", "t/\uffee", "t/\U0001f600", "t/", "u/s", "t/s\u0000a")


def step(s: str, v: int) -> Row:
    return Row(s, v, "step", uuid4().hex, 1, body='{"$a.b":"\u00fc"}', frames=("{}",))


def snapshot(version: int, chunks: int = 0) -> Snapshot:
    return Snapshot(version=version, base=1, opened=OPEN, turns=3, last_ms=9, chunks=chunks, items=())


def chunk(index: int, base: int = 1) -> Chunk:
    item = said(item=f"t{index}~0", turn=f"t{index}", role="user", text=f"text {index}", at_ms=1)
    return Chunk(base=base, index=index, first=index, items=(item,))


async def test_nothing_is_found_of_sessions_that_nobody_wrote(store: Store) -> None:
    assert await store.fetch(Wanted({"t/a": 0, "t/b": 7}, 10, ["t/a", "t/b"], {"t/a": (1, 2)})) == Found([], {}, {})


async def test_rows_above_each_version_come_in_order_of_session_and_number(store: Store) -> None:
    rows = [step(s, v) for s in ("t/c", "t/a", "t/b", "t/other") for v in (10, 2, 300, 1, 9)]
    await store.journal.insert(rows)

    found = (await store.fetch(Wanted({"t/b": 9, "t/a": 0, "t/none": 0, "t/c": 300}, 100))).rows

    assert [(row.s, row.v) for row in found] == [
        *(("t/a", v) for v in (1, 2, 9, 10, 300)),
        *(("t/b", v) for v in (10, 300)),
    ]
    assert found[0] == rows[8]


async def test_sessions_are_ordered_as_their_names_compare(store: Store) -> None:
    """What a full page leaves out is told by comparing names: so the store's order must be that of the names."""
    await store.journal.insert([step(s, v) for s in ODD for v in (1, 2)])

    whole = (await store.fetch(Wanted(dict.fromkeys(ODD, 0), 100))).rows

    assert [(row.s, row.v) for row in whole] == [(s, v) for s in sorted(ODD) for v in (1, 2)]
    for limit in (1, 2, 3, 19, 20):
        assert (await store.fetch(Wanted(dict.fromkeys(ODD, 0), limit))).rows == whole[:limit]


async def test_two_hundred_sessions_fit_into_one_read(store: Store) -> None:
    names = [f"t/{n:03}" for n in range(200)]
    await store.journal.insert([step(s, v) for s in names for v in (1, 2, 3)])
    await store.snapshots.save([Saving(names[7], snapshot(3), [])])

    found = await store.fetch(Wanted(dict.fromkeys(names, 1), 1_000, names, dict.fromkeys(names, (1, 4))))

    assert [(row.s, row.v) for row in found.rows] == [(s, v) for s in names for v in (2, 3)]
    assert found.snapshots == {names[7]: snapshot(3)}


async def test_snapshots_and_chunks_come_with_the_rows_and_count_for_no_limit(store: Store) -> None:
    await store.journal.insert([step("t/a", 5), step("t/a", 6), step("t/b", 1)])
    await store.snapshots.save([Saving("t/a", snapshot(5, chunks=12), [chunk(n) for n in range(12)])])
    await store.snapshots.save([Saving("t/b", snapshot(7, chunks=1), [chunk(0), chunk(0, base=4)])])
    await store.snapshots.save([Saving("t/c", snapshot(9), [])])

    wanted = Wanted({"t/a": 5, "t/b": 0}, 1, ["t/a", "t/c", "t/d"], {"t/a": (1, 11), "t/b": (4, 9), "t/c": (1, 1)})
    found = await store.fetch(wanted)

    assert [(row.s, row.v) for row in found.rows] == [("t/a", 6)]
    assert found.snapshots == {"t/a": snapshot(5, chunks=12), "t/c": snapshot(9)}
    assert found.chunks == {"t/a": [chunk(n) for n in range(11)], "t/b": [chunk(0, base=4)]}


async def test_a_large_answer_comes_whole(store: Store) -> None:
    """More than a message holds: 16 MiB."""
    big = "x" * 3_000_000
    for n in range(8):
        await store.journal.insert([Row(f"t/{n}", 1, "step", f"n{n}", 1, body=big)])

    found = (await store.fetch(Wanted({f"t/{n}": 0 for n in range(8)}, 100))).rows

    assert [len(row.body or "") for row in found] == [len(big)] * 8


async def test_a_batch_is_loaded_as_each_session_is_alone(store: Store) -> None:
    """New, short, longer than the first look, with a snapshot, with chunks, and with a page that ends inside."""
    grown = {}
    for name, turns, long in (("a", 1, False), ("b", 30, False), ("c", 12, False), ("d", 8, True), ("e", 2, False)):
        session = grown[f"t/{name}"] = Session(f"t/{name}", long=long)
        for n in range(turns):
            session.add(session.claim())
            session.add(session.finish())
            if n == 5 and name in "cd":
                await store.snapshots.save([Saving(session.s, *snapshot_write(session.state, NOTHING_SAVED))])
        await store.journal.insert(session.rows)
    names = [*grown, "t/new"]

    for page in (1_000, 7):
        material = await material_of(store, names, page)
        assert {s: material[s].folded().state for s in names} == {
            **{s: session.state for s, session in grown.items()},
            "t/new": EMPTY,
        }
        assert [s for s in names if material[s].snapshot] == ["t/c", "t/d"]
        assert len(material["t/d"].chunks) > 0
    for s in names:
        assert await load(store, s) == material[s].folded()
