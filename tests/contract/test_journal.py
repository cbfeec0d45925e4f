"""What every journal promises, real mongod and twin alike. The names are the contract."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from journal.port import Row, Store, Verdict
from schemas.entries import Close, ControlNote, body_of

A, C, K = Verdict.APPLIED, Verdict.COLLIDED, Verdict.KNOWN


def step(s: str, v: int, *, turn: str | None = None, body: str | None = "{}", at_ms: int = 1) -> Row:
    return Row(s, v, "step", uuid4().hex, at_ms, turn=turn, body=body)


async def test_a_row_comes_back_as_it_went_in(store: Store) -> None:
    row = Row("t/s", 1, "finish", "n1", 17, turn="a", op="o", body='{"$set":{"a.b":"ü\\u0000"}}', frames=("{}", "x"))

    assert await store.journal.insert([row]) == [A]
    assert await store.journal.row("t/s", 1) == row
    assert await store.journal.read("t/s", 0) == [row]
    assert await store.journal.row("t/s", 2) is None


async def test_a_version_is_written_once(store: Store) -> None:
    first = step("t/s", 1)
    await store.journal.insert([first])

    assert await store.journal.insert([step("t/s", 1)]) == [C]
    assert await store.journal.insert([first]) == [C]  # whose row it is says the nonce
    assert await store.journal.row("t/s", 1) == first


async def test_a_turn_is_introduced_once_and_that_is_no_collision(store: Store) -> None:
    await store.journal.insert([step("t/s", 1, turn="a")])

    assert await store.journal.insert([step("t/s", 2, turn="a")]) == [K]
    assert await store.journal.insert([step("t/other", 1, turn="a")]) == [A]
    assert await store.journal.insert([step("t/s", 2), step("t/s", 3)]) == [A, A]  # no turn: nothing is introduced
    assert await store.journal.introduced("t/s", "a") == 1
    assert await store.journal.introduced("t/s", "b") is None
    assert await store.journal.introduced("x/s", "a") is None


async def test_where_both_keys_exist_it_is_a_collision(store: Store) -> None:
    await store.journal.insert([step("t/s", 1, turn="a")])

    assert await store.journal.insert([step("t/s", 1, turn="a")]) == [C]


async def test_verdicts_come_in_the_order_of_the_rows_and_one_stops_no_other(store: Store) -> None:
    await store.journal.insert([step("t/a", 1, turn="x"), step("t/b", 1)])

    rows = [step("t/c", 1), step("t/b", 1), step("t/d", 1), step("t/a", 2, turn="x"), step("t/e", 1, turn="x")]
    assert await store.journal.insert(rows) == [A, C, A, K, A]
    assert [await store.journal.row(row.s, row.v) == row for row in rows] == [True, False, True, False, True]


async def test_rows_are_read_in_order_of_their_numbers_and_of_one_session_only(store: Store) -> None:
    rows = [step("t/s", v) for v in (10, 2, 300, 1, 9)]
    await store.journal.insert([*rows, step("t/s2", 5), step("t/r", 5), step("t/", 5)])

    assert [row.v for row in await store.journal.read("t/s", 0)] == [1, 2, 9, 10, 300]
    assert [row.v for row in await store.journal.read("t/s", 2)] == [9, 10, 300]
    assert [row.v for row in await store.journal.read("t/s", 1, 2)] == [2, 9]
    assert await store.journal.read("t/s", 300) == []


async def test_exists_looks_at_one_key(store: Store) -> None:
    await store.journal.insert([step("t/s", 1)])

    assert await store.journal.exists("t/s", 1)
    assert not await store.journal.exists("t/s", 2)


async def test_of_two_thousand_pairs_of_appenders_exactly_one_wins_each(store: Store) -> None:
    async def appender(name: str) -> dict[str, Verdict]:
        verdicts = {}
        for start in range(0, 2_000, 250):
            rows = [Row(f"t/{n}", 1, "step", f"{name}{n}", 1, body="{}") for n in range(start, start + 250)]
            verdicts.update({row.s: v for row, v in zip(rows, await store.journal.insert(rows), strict=True)})
        return verdicts

    one, other = await asyncio.gather(appender("one"), appender("other"))

    assert len(one) == 2_000
    assert all({one[s], other[s]} == {A, C} for s in one)
    for n in (0, 999, 1_999):
        row = await store.journal.row(f"t/{n}", 1)
        assert row is not None
        assert row.nonce == (f"one{n}" if one[f"t/{n}"] is A else f"other{n}")


async def test_unsetting_leaves_keys_ids_cancels_and_closes(store: Store) -> None:
    def note(v: int, kind: str) -> Row:
        entry = ControlNote(at_ms=1, op=f"o{v}", kind=kind, turn="b", tenant="t", user="u")  # type: ignore[arg-type]
        return Row("t/s", v, "control", f"n{v}", 1, op=f"o{v}", body=body_of(entry))

    close = Row("t/s", 4, "close", "n4", 1, op="c", body=body_of(Close(at_ms=1, reason="delete")), frames=("{}",))
    rows = [
        Row("t/s", 1, "claim", "n1", 1, turn="a", body='{"secret":1}'),
        note(2, "cancel"),
        Row("t/s", 3, "finish", "n3", 1, op="f", body='{"secret":1}', frames=("secret",)),
        close,
        note(5, "approve"),
        Row("t/s", 6, "control", "n6", 1, turn="st", op="o6", body='{"secret":1}'),
        Row("t/s", 7, "claim", "n7", 1, turn="z", body='{"kept":1}', frames=("kept",)),
    ]
    await store.journal.insert(rows)

    for _ in range(2):  # idempotent
        await store.journal.unset("t/s", 7)
        found = await store.journal.read("t/s", 0)
        assert [row.body for row in found] == [None, rows[1].body, None, close.body, None, None, '{"kept":1}']
        assert [row.frames for row in found] == [(), (), (), (), (), (), ("kept",)]
        same = [(row.s, row.v, row.kind, row.nonce, row.at_ms, row.turn, row.op) for row in rows]
        assert [(row.s, row.v, row.kind, row.nonce, row.at_ms, row.turn, row.op) for row in found] == same
    assert await store.journal.insert([step("t/s", 1), step("t/s", 8, turn="a")]) == [C, K]  # the fence stands


async def test_unsetting_a_long_session_reaches_every_row_below_and_none_above(store: Store) -> None:
    await store.journal.insert([step("t/s", v) for v in range(1, 1_201)])
    await store.journal.insert([step("t/t", 1)])

    await store.journal.unset("t/s", 1_200)

    found = await store.journal.read("t/s", 0, 2_000)
    assert [row.v for row in found if row.body is not None] == [1_200]
    assert (await store.journal.read("t/t", 0))[0].body == "{}"


async def test_dropping_frees_keys_below_and_before_only(store: Store) -> None:
    await store.journal.insert([step("t/s", v, turn=f"t{v}", at_ms=v) for v in range(1, 8)])
    await store.journal.insert([step("t/s", 8, at_ms=2), step("t/u", 1, at_ms=1)])

    assert await store.journal.drop("t/s", 6, until_ms=4, limit=3) == 3
    assert await store.journal.drop("t/s", 6, until_ms=4, limit=3) == 1
    assert await store.journal.drop("t/s", 6, until_ms=4, limit=3) == 0

    assert [row.v for row in await store.journal.read("t/s", 0)] == [5, 6, 7, 8]
    assert await store.journal.introduced("t/s", "t1") is None
    assert await store.journal.insert([step("t/s", 1, turn="t1")]) == [A]
    assert len(await store.journal.read("t/u", 0)) == 1


async def test_what_is_recorded_first_stays(store: Store) -> None:
    answers = await asyncio.gather(*(store.recorded("partitions", str(n)) for n in range(8)))

    assert len(set(answers)) == 1
    assert await store.recorded("partitions", "99") == answers[0]
    assert await store.recorded("other", "7") == "7"


async def test_what_is_recorded_in_place_of_it_stays_from_then_on(store: Store) -> None:
    await store.recorded("topic", "first")
    await store.record("topic", "second")
    await store.record("new", "first")

    assert await store.recorded("topic", "third") == "second"
    assert await store.recorded("new", "second") == "first"


async def test_a_store_that_takes_writes_says_so(store: Store) -> None:
    assert await asyncio.gather(*(store.ping() for _ in range(3))) == [True] * 3


async def test_starting_twice_changes_nothing(store: Store) -> None:
    await store.start()
    await store.start()

    assert await store.journal.insert([step("t/s", 1, turn="a")]) == [A]
