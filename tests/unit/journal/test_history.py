"""A growing history: old views stay what they were, and every worker cuts alike."""

from __future__ import annotations

import pytest

from journal.history import History
from schemas.history import HistoryItem, said


def item(n: int, size: int = 10) -> HistoryItem:
    return said(item=f"t{n}~0", turn=f"t{n}", role="user", text="x" * size, at_ms=n)


def test_an_older_view_stays_what_it_was() -> None:
    one = History().extended([item(1)])
    two = one.extended([item(2)])
    other = one.extended([item(3)])

    assert [it.at_ms for it in one] == [1]
    assert [it.at_ms for it in two] == [1, 2]
    assert [it.at_ms for it in other] == [1, 3]


def test_the_empty_history_that_all_sessions_start_from_keeps_nothing() -> None:
    empty = History()
    empty.extended([item(1)])

    assert not empty._items
    assert list(empty.extended([item(2)])) == [item(2)]


@pytest.mark.parametrize("step", [1, 2, 7])
def test_cuts_depend_on_the_items_alone(step: int) -> None:
    items = [item(n, 100 + n) for n in range(40)]
    grown = History(1_000)
    for start in range(0, 40, step):
        grown = grown.extended(items[start : start + step])
    at_once = History(1_000).extended(items)

    assert grown == at_once
    assert grown.chunk_count == 6
    assert [it for n in range(6) for it in grown.chunk(n)] + list(grown.tail()) == items
    assert grown.size == at_once.size


def test_what_was_stored_in_chunks_comes_back_and_grows_alike() -> None:
    whole = History(1_000).extended([item(n, 100) for n in range(40)])
    chunks = [whole.chunk(n) for n in range(whole.chunk_count)]

    again = History.of(chunks, whole.tail(), chunk_bytes=1_000)

    assert again == whole
    assert [again.chunk_start(n) for n in range(3)] == [0, len(chunks[0]), len(chunks[0]) + len(chunks[1])]
    more = [item(n, 100) for n in range(40, 60)]
    assert again.extended(more) == whole.extended(more)
    assert again.size == whole.size


def test_it_is_a_sequence() -> None:
    history = History().extended([item(n) for n in range(5)])
    longer = history.extended([item(9)])

    assert history[-1].at_ms == 4
    assert [it.at_ms for it in history[3:9]] == [3, 4]
    with pytest.raises(IndexError):
        history[5]
    assert hash(longer) != hash(history)
    assert (history == longer, history == 1) == (False, False)
