"""What durable entries leave of a turn that nobody runs again; and what a warm session weighs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from journal.history import History
from schemas.entries import ControlNote, Step, Suspend
from schemas.turn import TurnInput
from tests.support.stage import NOON_MS, open_turn
from workers import actor
from workers.remains import of_turn


def steer(op: str, text: str) -> ControlNote:
    return ControlNote(at_ms=NOON_MS, op=op, kind="steer", turn="t1", tenant="default", user="ann", value=text)


def suspend(text: str, *, steers: tuple[str, ...] = (), run: str = "") -> Suspend:
    return Suspend(
        at_ms=NOON_MS, turn="t1", attempt=1, call="c", deadline_ms=NOON_MS + 1, step=1, run=run, name="pay", digest="d",
        text=text, steers=steers,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("suspended", "said"),
    [
        (suspend("pay now?", steers=("s1",)), ["I would ", "cheaper!", "pay now?"]),
        (suspend("pay now?"), ["I would pay now?"]),
        (suspend("", steers=("s1",)), ["I would ", "cheaper!"]),
        (suspend("aside", steers=("s1",), run="b"), ["I would "]),
    ],
)
def test_what_a_suspended_turn_had_heard_stands_before_what_it_said_then(suspended: Suspend, said: list[str]) -> None:
    step = Step(
        at_ms=NOON_MS, turn="t1", attempt=1, step=0, kind="step", name="x", digest="d", result=None, text="I would "
    )
    turn = open_turn(TurnInput(text="buy"), 1, (step,), 1_000)._replace(
        joined=(steer("s1", "cheaper!"),), suspended=suspended, asked=(suspended,)
    )

    text, items = of_turn(turn, NOON_MS)

    assert [item.text for item in items] == said
    assert text == "".join(it for it in said if it != "cheaper!")


def test_what_a_session_keeps_is_weighed_once_as_long_as_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weighed: list[Any] = []

    def weigh(kept: Any) -> int:
        weighed.append(kept)
        return 10

    monkeypatch.setattr(actor, "weight_of", weigh)
    state = SimpleNamespace(history=History(), kept={"a": 1})
    one = SimpleNamespace(session=SimpleNamespace(state=state), _weighed=({}, 0))
    weight: Any = vars(actor.Actor)["weight"].fget

    assert [weight(one), weight(one)] == [4_106, 4_106]
    state.kept = {"a": 2}
    assert (weight(one), weighed) == (4_106, [{"a": 1}, {"a": 2}])
