"""The contiguous watermark, by example; the property test has the rest."""

from __future__ import annotations

import pytest

from broker.watermark import Watermark


def test_position_moves_only_over_what_is_contiguously_done() -> None:
    mark = Watermark(5)
    for offset in (5, 6, 7):
        assert mark.received(offset)
    mark.done(6)
    assert (mark.position, mark.waiting) == (5, 3)
    mark.done(5)
    assert (mark.position, mark.waiting) == (7, 1)
    mark.done(7)
    assert (mark.position, mark.waiting) == (8, 0)


def test_gaps_in_offsets_are_skipped_once_everything_before_them_is_done() -> None:
    mark = Watermark(0)
    mark.received(3)
    mark.received(9)
    assert mark.position == 3
    mark.done(3)
    assert mark.position == 9
    mark.done(9)
    assert mark.position == 10


def test_an_offset_seen_before_is_refused_and_changes_nothing() -> None:
    mark = Watermark(4)
    assert not mark.received(3)
    assert mark.received(4)
    assert not mark.received(4)
    assert mark.waiting == 1


def test_done_twice_is_as_good_as_once() -> None:
    mark = Watermark(0)
    for offset in range(3):
        mark.received(offset)
    mark.done(1)
    mark.done(1)
    mark.done(0)
    mark.done(0)
    assert mark.position == 2


def test_done_of_an_offset_never_received_is_a_defect_and_says_so() -> None:
    mark = Watermark(0)
    with pytest.raises(ValueError, match="never received"):
        mark.done(0)
