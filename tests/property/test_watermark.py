"""The watermark against a naive model: any rising offsets with gaps, done in any order, seen again at will."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.watermark import Watermark


def naive_position(start: int, received: list[int], done: set[int]) -> int:
    """The lowest received offset that is not done, else one past the last."""
    undone = [offset for offset in received if offset not in done]
    return undone[0] if undone else max([start - 1, *received]) + 1


@given(data=st.data(), start=st.integers(0, 1_000), gaps=st.lists(st.integers(0, 3), max_size=60))
def test_position_equals_the_naive_models(data: st.DataObject, start: int, gaps: list[int]) -> None:
    mark, received, done, following = Watermark(start), list[int](), set[int](), start
    for gap in gaps:
        following += gap
        assert mark.received(following)
        received.append(following)
        following += 1
        for offset in data.draw(st.lists(st.sampled_from(received), max_size=3)):
            mark.done(offset)
            done.add(offset)
            assert mark.position == naive_position(start, received, done)
    for offset in data.draw(st.permutations(received)):
        before = mark.position
        mark.done(offset)
        done.add(offset)
        assert mark.position == naive_position(start, received, done) >= before
    assert (mark.position, mark.waiting) == (naive_position(start, received, done), 0)
