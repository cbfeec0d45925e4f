"""A turn that is taken back was paid for: what it spent stays, what it would have kept does not."""

from __future__ import annotations

import pytest

from schemas.frames import Usage
from schemas.receipt import Spending
from tests.support.desk import Desk


@pytest.mark.parametrize("policy", ["interrupt", "rollback"])
def test_what_a_turn_has_spent_stays_spent_when_it_is_ended(policy: str) -> None:
    desk = Desk()
    desk.turn("t1")
    desk.turn("t2", if_busy=policy)
    assert desk.stopped == [policy]
    usage, kept = (Usage(model="m", input_tokens=10, output_tokens=5),), {"note": "of t1"}
    desk.finish(outcome="cancelled", by=policy, usage=usage, kept=kept)
    state = desk.log.state()

    assert state.spent == Spending(15, 0)
    assert state.kept == ({} if policy == "rollback" else kept)
