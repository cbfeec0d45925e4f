"""A provider that answers 429 for a minute is not asked much more often than there are turns. In virtual time, at a
steady load; every call is counted by the model itself.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, field

import pytest

from fleet.testing.virtual_loop import run
from schemas.codes import Code
from schemas.errors import RetryableError, TerminalError
from schemas.settings import ModelSettings
from workers.models.port import ModelRateLimited, ModelRequest, ModelUnavailable
from workers.models.retry import ModelCaller
from workers.models.scripted import Script, ScriptedModel

BEFORE_S, STORM_S, AFTER_S = 90.0, 60.0, 20.0
GOOD = Script(("all", " good"), first_s=0.4)


@dataclass
class Load:
    """Turns at `rate` a second: a calm time, the storm, a calm time. Counts are by the part in which a turn began."""

    rate: float
    storm: RetryableError
    settings: ModelSettings
    before_s: float = BEFORE_S
    calls: Counter[str] = field(default_factory=Counter)
    turns: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0

    async def play(self) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()

        def part() -> str:
            passed_s = round(loop.time() - began_s, 6)
            return "before" if passed_s < self.before_s else "storm" if passed_s < self.before_s + STORM_S else "after"

        def answers(request: ModelRequest) -> Script:
            self.calls[part()] += 1
            return Script(error=self.storm, first_s=0.1) if part() == "storm" else GOOD

        model = ScriptedModel(answers, coalesce_s=0)
        random = itertools.cycle((0.1, 0.5, 0.9, 0.3, 0.7))
        caller = ModelCaller(model, self.settings, clock_ms=lambda: loop.time() * 1000, chance=lambda: next(random))
        async with asyncio.TaskGroup() as turns:
            for number in range(round((self.before_s + STORM_S + AFTER_S) * self.rate)):
                self.turns[part()] += 1
                turns.create_task(self._turn(caller, number, part()))
                await asyncio.sleep(1 / self.rate)

    async def _turn(self, caller: ModelCaller, number: int, part: str) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            await caller.ask(
                ModelRequest(session=f"s{number}", turn="t", messages=()),
                piece=lambda chunk: None,
                deadline_ms=(began_s + 300) * 1000,
            )
            self.outcomes[f"{part}: completed"] += 1
        except (RetryableError, TerminalError) as error:
            self.outcomes[f"{part}: {error.code}"] += 1
        self.longest_s = max(self.longest_s, loop.time() - began_s)

    @property
    def amplification(self) -> float:
        return self.calls["storm"] / self.turns["storm"]


def played(rate: float, storm: RetryableError, before_s: float = BEFORE_S, **settings: float) -> Load:
    load = Load(rate, storm, ModelSettings(**settings), before_s)  # type: ignore[arg-type]
    run(load.play())
    print(f"{rate:g} turns/s, {settings or 'defaults'}: {load.amplification:.3f}", dict(load.outcomes))
    return load


NO_BREAKER = {"model_breaker_failures": 1_000_000}


@pytest.mark.parametrize(("rate", "after_s"), [(2, None), (10, None), (10, 1.0), (30, None)])
@pytest.mark.parametrize("breaker", [True, False], ids=["breaker", "budget alone"])
def test_a_minute_of_429_is_amplified_by_a_tenth_at_most(rate: float, after_s: float | None, breaker: bool) -> None:
    load = played(rate, ModelRateLimited("429", after_s=after_s), **({} if breaker else NO_BREAKER))
    assert load.turns["storm"] == rate * STORM_S
    assert load.calls["storm"] > 0
    assert load.amplification <= 1.1


def test_without_a_budget_it_would_be_four_calls_a_turn() -> None:
    load = played(10, ModelRateLimited("429"), **NO_BREAKER, model_retry_floor=1_000_000)
    assert load.amplification > 3.5


def test_a_worker_that_is_new_has_the_floor_alone() -> None:
    load = played(10, ModelUnavailable("503"), before_s=0.0, **NO_BREAKER)
    assert load.calls["storm"] - load.turns["storm"] <= 3 + 3


def test_turns_end_typed_and_at_once_when_the_budget_is_empty() -> None:
    load = played(10, ModelRateLimited("429"), **NO_BREAKER)
    failed = load.outcomes[f"storm: {Code.MODEL_RATE_LIMITED}"]
    assert failed >= 0.9 * load.turns["storm"]
    assert load.outcomes["before: completed"] == load.turns["before"]
    assert load.outcomes["after: completed"] == load.turns["after"]
    assert load.longest_s < 6.0


def test_with_a_breaker_the_storm_costs_a_handful_of_calls_and_who_waits_is_served_after_it() -> None:
    load = played(10, ModelRateLimited("429"), model_breaker_wait_s=300.0)
    assert load.calls["storm"] <= 40
    assert load.outcomes["storm: completed"] >= 0.98 * load.turns["storm"]
    assert load.outcomes["after: completed"] == load.turns["after"]


def test_one_failure_in_twenty_calls_is_tried_again_and_nobody_sees_it() -> None:
    async def play() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        busy = Script(error=ModelUnavailable("503"))
        model = ScriptedModel(lambda request: GOOD if len(model.calls) % 20 else busy, coalesce_s=0)
        caller = ModelCaller(model, ModelSettings(), clock_ms=lambda: loop.time() * 1000, chance=lambda: 0.5)
        for number in range(400):
            await caller.ask(ModelRequest(f"s{number}", "t", ()), piece=lambda chunk: None)
        return len(model.calls), sum(not call.whole for call in model.calls)

    assert run(play()) == (421, 21)
