"""What `fleet send` publishes, and what it refuses before it publishes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from fleet.answer import Answer
from fleet.asking import Asked
from fleet.exits import CommandError, Exit
from fleet.send import Wish, _watch, awaiting
from fleet.wire import Wire


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


PLACE = {"session": "s1", "turn": "t1", "attempt": 1, "at_ms": 1}
ASKED = {**PLACE, "type": "approval_requested", "seq": 1, "call": "c1", "kind": "tool_call", "expires_ms": 1}


class Heard:
    """Frames as Kafka has them."""

    async def frames(self) -> AsyncIterator[dict[str, Any]]:
        yield {**ASKED, "name": "pay", "arguments": {"eur": 5}, "message": "may\x1b[2J I?"}
        yield {**PLACE, "type": "completed", "seq": 2, "text": "paid"}


async def test_whoever_waits_is_told_that_a_decision_is_awaited(capsys: pytest.CaptureFixture[str]) -> None:
    end = await _watch(cast(Wire, Heard()), Answer("t1"), live=False)

    said = capsys.readouterr()
    assert (end["text"], said.out) == ("paid", "")
    assert said.err == (
        'fleet: the turn awaits a decision on pay {"eur": 5} (may[2J I?), call c1: on the chat page, or '
        "POST /v1/sessions/s1/turns/t1/approve\n"
    )


def test_a_question_awaits_one_as_well() -> None:
    assert awaiting(Asked({**ASKED, "kind": "question", "message": "which?"})).startswith(
        "the turn awaits a decision on a question (which?), call c1"
    )
