"""What a reading of everything that is stored promises, real mongod and twin alike."""

from __future__ import annotations

from journal.port import PAYLOAD_CHARS, Row, Saving, Store, Verdict
from schemas.snapshot import Snapshot


def row(s: str, v: int) -> Row:
    return Row(s, v, "claim", f"n-{s}-{v}", v, f"t{v}", None, f'{{"v":{v}}}', ("frame",))


async def rows_of(store: Store) -> list[Row]:
    return [row async for page in store.survey.rows() for row in page]


async def test_every_row_comes_once_in_order_of_session_and_version(store: Store) -> None:
    given = [row(s, v) for s in ("t/b", "t/a", "u/a") for v in range(1, 901)]
    for start in range(0, len(given), 900):
        assert set(await store.journal.insert(given[start : start + 900])) == {Verdict.APPLIED}
    found = await rows_of(store)

    assert found == sorted(given)
    assert sum([len(page) async for page in store.survey.rows()]) == 2_700


async def test_a_large_body_comes_with_its_row(store: Store) -> None:
    given = [row("t/a", v)._replace(body=f'{{"v":"{v}{"x" * PAYLOAD_CHARS}"}}') for v in range(1, 40)]
    assert set(await store.journal.insert(given)) == {Verdict.APPLIED}

    assert await rows_of(store) == given


async def test_nothing_stored_is_nothing_read(store: Store) -> None:
    assert await rows_of(store) == []
    assert [page async for page in store.survey.snapshots()] == []


async def test_what_is_written_while_it_reads_leaves_no_hole(store: Store) -> None:
    await store.journal.insert([row("t/a", v) for v in range(1, 501)])
    await store.journal.insert([row("t/b", v) for v in range(1, 501)])
    found: list[Row] = []
    async for page in store.survey.rows():
        if not found:
            await store.journal.insert([row("t/c", v) for v in range(1, 101)])
        found.extend(page)

    for s in ("t/a", "t/b", "t/c"):
        versions = [one.v for one in found if one.s == s]
        assert versions == list(range(1, len(versions) + 1))


async def test_every_snapshot_comes_with_its_session(store: Store) -> None:
    given = {s: Snapshot(version=v, base=1, opened=None, turns=v, last_ms=9, chunks=0, items=()) for v, s in NAMES}
    await store.snapshots.save([Saving(s, snapshot) for s, snapshot in given.items()])

    assert dict([pair async for page in store.survey.snapshots() for pair in page]) == given


NAMES = [(v, f"t/s{v}") for v in range(1, 6)]
