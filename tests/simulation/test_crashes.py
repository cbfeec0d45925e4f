"""An agent that pays is killed after every append and after every publish, each in a run of its own: P6, P11."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from unittest.mock import patch

import orjson
import pytest

from schemas.entries import Intent
from tests.simulation import checks, world
from tests.simulation.plan import Plan, Sent
from tests.simulation.run import sealed, settle, states_of
from tests.simulation.virtual import EMPTY, VirtualLoop
from tests.simulation.weather import Weather
from tests.simulation.world import World

SEED, TURNS = 1, 2


class OneCrash(Weather):
    """Fair, but for one kill: at the `at`-th event of its kind."""

    def __init__(self, kind: str, at: int) -> None:
        super().__init__(SEED)
        self.fair = True
        self.kind = kind
        self.left = at

    def happens(self, kind: str, chance: float) -> bool:
        if kind != self.kind:
            return False
        self.left -= 1
        return self.left == 0


def plan() -> Plan:
    made = Plan(span_s=1.0, sessions={"s0": "pays"})
    for number in range(TURNS):
        body: dict[str, Any] = {"turn": f"t{number}", "user": "s0", "agent": "pays", "text": f"say t{number}"}
        made.turns["s0", f"t{number}"] = body
        made.sent.append(Sent(1.0 + number * 0.01, "agent.turns", "s0", body))
    return made


def crashed(kind: str, at: int) -> World | None:
    """The world after a run with a kill at the `at`-th event of this kind; None: there were not so many."""
    loop = VirtualLoop()
    weather = OneCrash(kind, at)
    with sealed(SEED, loop), patch.object(world, "Weather", lambda _seed: weather):
        made: World = loop.run(_run(loop))
    return made if weather.left <= 0 else None


async def _run(loop: VirtualLoop) -> World:
    wanted = plan()
    made = World(SEED, wanted, loop)
    made.group.check = checks.passed(made.ledger, made.cluster)
    made.join()
    for sent in wanted.sent:
        loop.call_later(sent.at_s, made.send, sent, context=EMPTY)
    await asyncio.sleep(2.0)
    await settle(made)
    made.ledger.broken.extend(checks.broken(wanted, made.ledger, await states_of(made)))
    return made


@pytest.mark.parametrize("kind", ["killed after an append", "killed after a publish"])
def test_an_agent_that_is_killed_after_each_of_them_pays_once_at_most(kind: str) -> None:
    seen: Counter[str] = Counter()
    at = 0
    while (made := crashed(kind, at := at + 1)) is not None:
        ledger = made.ledger
        assert not ledger.broken, f"{kind} {at}: {ledger.broken}"
        assert made.weather.counts["kill after a publish"] + made.weather.counts["kill after append"] == 1
        frames = [orjson.loads(ledger.over["s0", f"t{number}"]) for number in range(TURNS)]
        assert [frame["type"] for frame in frames] == ["completed"] * TURNS
        seen["unknown"] += sum("[outcome_unknown]" in frame["text"] for frame in frames)
        seen["paid, and unknown"] += sum(
            "[outcome_unknown]" in frame["text"] and (frame["turn"], f"pay say {frame['turn']}") in ledger.calls
            for frame in frames
        )
        seen["booked again"] += sum(
            len(keys) > 1 for (_, tool), keys in ledger.calls.items() if tool.startswith("book")
        )
        intents = [entry for _, entry in ledger.rows["s0"] if isinstance(entry, Intent)]
        assert len(intents) == 2 * TURNS
        seen["runs"] += 1
    assert seen["runs"] >= 13, seen  # claim, step, 2 x (intent, step), finish; the second claim in the first finish
    assert seen["unknown"] >= TURNS, seen
    if kind == "killed after a publish":
        assert seen["paid, and unknown"] >= 1, seen
        assert seen["booked again"] >= 1, seen
