"""A line does what a deque does."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from workers.line import Line

MOVES = st.lists(st.sampled_from(["append", "appendleft", "popleft", "extend", "extendleft", "clear"]), max_size=30)


@given(MOVES)
def test_it_is_a_deque_to_whoever_uses_it(moves: list[str]) -> None:
    line, model = Line[int](), deque[int]()
    for number, move in enumerate(moves):
        if move in {"popleft", "clear"}:
            if model:
                assert getattr(line, move)() == getattr(model, move)()
        else:
            item = (number, number + 100) if move.startswith("extend") else number
            getattr(line, move)(item)
            getattr(model, move)(item)
        assert list(line) == list(model)
        assert bool(line) == bool(model)
