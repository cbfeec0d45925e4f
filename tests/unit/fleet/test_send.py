"""What `fleet send` publishes, and what it refuses before it publishes."""

from __future__ import annotations

import pytest

from fleet.exits import CommandError, Exit
from fleet.send import Wish


def test_a_turn_has_the_users_words_and_an_id() -> None:
    turn = Wish(session="s1", text="hi", user="ann", agent="echo", turn="t1").as_turn()
    assert (turn.text, turn.user, turn.agent, turn.turn) == ("hi", "ann", "echo", "t1")
    minted = Wish(session="s1", text="hi").as_turn().turn
    assert minted
    assert minted != Wish(session="s1", text="hi").as_turn().turn


@pytest.mark.parametrize(
    "wish",
    [
        Wish(session="no/session", text="hi"),
        Wish(session="s" * 129, text="hi"),
        Wish(session="s1", text=""),
        Wish(session="s1", text="x" * 300_000),
        Wish(session="s1", text="hi", turn="a b"),
        Wish(session="s1", text="hi", user="\x00"),
        Wish(session="s1", text="hi", agent="a/b"),
    ],
)
def test_what_would_be_refused_is_not_published(wish: Wish) -> None:
    with pytest.raises(CommandError) as caught:
        wish.as_turn()
    assert caught.value.code == Exit.USAGE
