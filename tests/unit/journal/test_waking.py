"""Which turns are looked at again when their records are gone."""

from __future__ import annotations

from journal.port import Row
from journal.rows import row_of
from journal.waking import to_wake
from schemas.control import CancelControl, DeleteControl
from tests.support.desk import Desk


def rows(desk: Desk) -> list[Row]:
    return [row_of("default/s", version, entry, f"w-{version}") for version, entry in enumerate(desk.log.entries, 1)]


def due(desk: Desk, since_ms: int = 0) -> list[str]:
    return [turn for turn, _ in to_wake(rows(desk), since_ms, desk.now_ms)]


def busy() -> Desk:
    """`t2` was cancelled while it waited, `t1` ended, `t3` runs."""
    desk = Desk()
    desk.turn("t1")
    desk.turn("t2")
    desk.turn("t3")
    desk.control(CancelControl(op="c", user="u", turn="t2"))
    desk.finish()
    assert desk.started[-1] == ("t3", 1)
    return desk


def test_turns_that_are_over_come_in_the_order_of_their_ends_and_then_the_one_that_is_open() -> None:
    assert due(busy()) == ["t2", "t1", "t3"]


def test_each_is_due_a_little_later_than_the_one_before() -> None:
    desk = busy()
    moments = [at_ms for _, at_ms in to_wake(rows(desk), 0, desk.now_ms)]
    assert moments == [desk.now_ms, desk.now_ms + 1, desk.now_ms + 2]


def test_what_ended_long_ago_is_left_alone() -> None:
    desk = busy()
    assert due(desk, since_ms=desk.now_ms + 1) == ["t3"]


def test_a_turn_that_steers_another_is_over_with_it_and_not_before() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.turn("t2", if_busy="steer")
    assert due(desk) == ["t1"]
    desk.finish()
    assert due(desk) == ["t1", "t2"]


def test_what_a_close_ended_is_over_and_what_it_unset_has_no_frame() -> None:
    desk = busy()
    desk.control(DeleteControl(op="d", user="u"))
    assert desk.log.entries[-1].k == "close"
    unset = [row if row.kind == "close" else row._replace(body=None, frames=()) for row in rows(desk)]
    assert [turn for turn, _ in to_wake(unset, 0, desk.now_ms)] == ["t3"]
