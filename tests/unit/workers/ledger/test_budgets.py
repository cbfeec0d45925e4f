"""Budgets: what is refused before a call, what is settled after it, by whose they are; no budget, no cost."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

import pytest

from fleet.testing.virtual_loop import run
from journal.fold import fold
from journal.folding import snapshot_of, state_of
from journal.gate import Call
from journal.memory import MemoryStore
from journal.memory_budgets import MemoryBudgets
from journal.port import Cap, StoreUnavailable
from journal.state import EMPTY
from schemas.codes import Code
from schemas.errors import RetryableError, TerminalError
from schemas.frames import Usage
from schemas.receipt import Spending
from schemas.settings import BudgetSettings, ModelSettings
from schemas.snapshot import Snapshot
from tests.support.desk import Desk
from tests.support.memory_fleet import MemoryFleet
from tests.support.stage import NOON_MS, Stage, Told
from workers.agent import AgentTurn, agent
from workers.context import Context
from workers.ledger.allowance import Allowance, Spent, caps_of
from workers.ledger.bank import DAY_MS, Bank
from workers.ledger.estimate import input_tokens
from workers.ledger.prices import Prices
from workers.models.port import ModelDone, ModelRequest, ModelUnavailable
from workers.models.retry import ModelCaller
from workers.models.scripted import Script, ScriptedModel

DAY = NOON_MS // DAY_MS
USER, TENANT = f"user/default/ann/{DAY}", f"day/default/{DAY}"
PRICES = Prices.of(
    {
        "currency": "EUR",
        "prices": [
            {"model": "told", "from": date(2020, 1, 1), "input": 1, "output": 10},
            {"model": "dear", "from": date(2020, 1, 1), "input": 100, "output": 1_000},
        ],
    }
)


def bank(budgets: MemoryBudgets | None = None, **caps: Cap) -> Bank:
    return Bank(budgets or MemoryBudgets(), caps, clock_ms=lambda: NOON_MS, output_tokens=100)


def answer(tokens: int) -> list[Any]:
    return ["Hello", ModelDone(usage=Usage(model="told", input_tokens=10, output_tokens=tokens))]


async def careful(turn: AgentTurn, ctx: Context) -> str:
    """Asks until it may not, then says what it has."""
    for n in range(9):
        try:
            await ctx.model(f"part {n}", show=False, max_tokens=50)
        except TerminalError as over:
            return f"{n} parts; {over}" if over.code is Code.QUOTA else over.code.value
    return "all"


async def test_over_budget_is_a_typed_error_that_an_agent_may_answer() -> None:
    refused: list[str] = []
    rules = bank(turn=Cap(tokens=200))
    rules.count = refused.append
    stage = Stage(careful, Told(answer(40)), bank=rules)
    result = await stage.play()
    assert result.outcome == "completed"
    assert result.text.startswith("3 parts; the budget of this turn is 200 tokens, 150 tokens are spent or reserved; ")
    assert [step.error.code if step.error else None for step in stage.link.steps] == [None, None, None, Code.QUOTA]
    assert (len(stage.model.requests), result.model_calls, refused) == (3, 3, ["turn"])


async def test_what_was_refused_is_refused_again_by_a_later_attempt() -> None:
    first = Stage(careful, Told(answer(40)), bank=bank(turn=Cap(tokens=200)))
    result = await first.play()
    again = Stage(careful, Told(answer(40)), attempt=2, steps=first.link.steps, bank=bank(turn=Cap(tokens=900)))
    assert (await again.play()).text == result.text
    assert again.model.requests == []


async def test_an_agent_that_does_not_care_ends_failed_with_quota() -> None:
    async def eager(turn: AgentTurn, ctx: Context) -> None:
        await ctx.model()

    stage = Stage(eager, bank=bank(turn=Cap(tokens=20)))
    result = await stage.play()
    assert (result.outcome, result.code, stage.model.requests) == ("failed", Code.QUOTA, [])


async def test_calls_side_by_side_draw_on_one_budget() -> None:
    """Each fits alone; what is asked for at the same time counts though nobody knows yet what it will cost."""

    async def many(turn: AgentTurn, ctx: Context) -> str:
        asks = (ctx.branch(f"b{n}").model("hi", show=False, max_tokens=50) for n in range(8))
        done = await asyncio.gather(*asks, return_exceptions=True)
        return str(sum(not isinstance(one, BaseException) for one in done))

    result = await Stage(many, Told(answer(50)), bank=bank(turn=Cap(tokens=200))).play()
    assert result.text == "3"


async def test_users_and_days_are_settled_with_what_a_call_did_cost() -> None:
    budgets = MemoryBudgets()
    rules = bank(budgets, user=Cap(tokens=500), day=Cap(tokens=5_000))
    assert (await Stage(careful, Told(answer(40)), bank=rules).play()).text == "all"
    await rules.settled()
    assert (await budgets.spent(USER), await budgets.spent(TENANT)) == (Spending(450, 0), Spending(450, 0))
    late = await Stage(careful, Told(answer(40)), bank=rules).play()
    assert late.text.startswith("0 parts; the budget of this user's day is 500 tokens; this call may take ")
    await rules.settled()
    assert await budgets.reserve(TENANT, Spending(4_550, 0), Cap(5_000), now_ms=NOON_MS, until_ms=NOON_MS)
    other = await Stage(careful, Told(answer(40)), bank=bank(budgets, day=Cap(tokens=5_000))).play()
    assert "this tenant's day" in other.text


async def test_what_the_day_refuses_is_given_back_to_the_user() -> None:
    budgets = MemoryBudgets()
    rules = bank(budgets, user=Cap(tokens=100), day=Cap(tokens=10))
    await Stage(careful, bank=rules).play()
    await rules.settled()
    assert await budgets.reserve(USER, Spending(100, 0), Cap(100), now_ms=NOON_MS, until_ms=NOON_MS)


async def test_a_call_that_was_cut_and_told_nothing_costs_what_was_reserved_and_one_that_never_began_nothing() -> None:
    async def asks(turn: AgentTurn, ctx: Context) -> str:
        try:
            await ctx.model("hi", show=False, max_tokens=50)
        except RetryableError:
            return f"{ctx.spent.tokens_left}"
        return "?"

    budgets = MemoryBudgets()
    for script, spent in ((["Hel", ModelUnavailable("cut")], 60), ([ModelUnavailable("no connection")], 0)):
        rules = bank(budgets, user=Cap(tokens=1_000), turn=Cap(tokens=100))
        before = await budgets.spent(USER)
        result = await Stage(asks, Told(script), model_attempts=1, bank=rules).play()
        await rules.settled()
        cost = (await budgets.spent(USER)).tokens - before.tokens
        assert cost == (0 if not spent else 50 + 8 + 1)
        assert result.text == str(100 - cost)


async def test_a_turn_that_is_cancelled_gives_back_what_it_reserved() -> None:
    budgets = MemoryBudgets()
    rules = bank(budgets, user=Cap(tokens=100))
    stage = Stage(careful, Told(["…"]), bank=rules)
    running = stage.start()
    for _ in range(20):
        await asyncio.sleep(0)
    running.stop("user")
    for _ in range(20):
        await asyncio.sleep(0)
    await rules.settled()
    assert stage.results[0].outcome == "cancelled"
    assert await budgets.spent(USER) == Spending(50 + 8 + 2, 0)  # it was being answered: nobody knows how far
    assert await budgets.reserve(USER, Spending(40, 0), Cap(100), now_ms=NOON_MS, until_ms=NOON_MS)


async def test_an_answer_is_booked_once_by_whoever_paid_for_it_also_a_zombie_and_never_by_whoever_replays_it() -> None:
    budgets = MemoryBudgets()
    rules = bank(budgets, user=Cap(tokens=500))

    async def asks(turn: AgentTurn, ctx: Context) -> str:
        return (await ctx.model("hi", show=False, max_tokens=50)).text

    zombie = Stage(asks, Told(answer(40)), bank=rules)
    zombie.link.lost = True  # somebody took the turn over while the model answered
    zombie.start()
    for _ in range(50):
        await asyncio.sleep(0)
    await rules.settled()
    assert (len(zombie.model.requests), await budgets.spent(USER)) == (1, Spending(50, 0))
    owner = Stage(asks, Told(answer(30)), attempt=2, bank=rules)
    await owner.play()
    await rules.settled()
    assert await budgets.spent(USER) == Spending(90, 0)  # both were paid for
    later = Stage(asks, Told(answer(20)), attempt=3, steps=owner.link.steps, bank=rules)
    assert (await later.play()).usage == owner.results[0].usage
    await rules.settled()
    assert (later.model.requests, await budgets.spent(USER)) == ([], Spending(90, 0))
    assert await budgets.reserve(USER, Spending(410, 0), Cap(500), now_ms=NOON_MS, until_ms=NOON_MS)  # nothing is held


async def test_money_is_reserved_at_the_dearest_model_that_may_answer() -> None:
    async def asks(turn: AgentTurn, ctx: Context) -> str:
        await ctx.model("hi", show=False, max_tokens=50)
        return str(ctx.spent)

    cap = Cap(nanos=5_000_000)  # 50 tokens of `told` cost half a thousandth, of `dear` fifty of them
    stage = Stage(asks, Told(answer(40)), bank=bank(turn=cap), prices=PRICES)
    stage.job.model = "told"
    assert (await stage.play()).text == str(Spent(50, 0.00041, None, 0.00459))
    stage = Stage(asks, Told(answer(40)), bank=bank(turn=cap), prices=PRICES)
    stage.job.model, stage.job.fallbacks = "told", ("dear",)
    result = await stage.play()
    assert (result.code, stage.model.requests) == (Code.QUOTA, [])
    assert result.message.startswith("the budget of this turn is 0.005 EUR, 0 EUR are spent or reserved; this call may")


async def test_a_model_without_a_price_keeps_no_budget_in_money() -> None:
    stage = Stage(careful, Told(answer(40)), bank=bank(day=Cap(nanos=10**12)), prices=PRICES)
    stage.job.model = "strange"
    result = await stage.play()
    assert "model strange has no price" in result.text
    assert stage.model.requests == []


async def test_what_is_priced_never_hides_behind_what_is_not() -> None:
    """A provider names another model than was asked for: what was reserved counts, or what is known if it is more."""

    async def asks(turn: AgentTurn, ctx: Context) -> str:
        await ctx.model("hi", show=False, max_tokens=50)
        return str(ctx.spent)

    strange = Usage(model="strange", input_tokens=1, output_tokens=1)
    dear = Usage(model="dear", input_tokens=1, output_tokens=7)
    for told, nanos in ((strange, 509_000), (dear, 7_100_000)):
        budgets = MemoryBudgets()
        rules = bank(budgets, user=Cap(nanos=10**9))
        stage = Stage(
            asks, Told(["Hel", cut_with(told)], ["Hello", ModelDone(usage=strange)]), bank=rules, prices=PRICES
        )
        stage.job.model = "told"
        text = (await stage.play()).text
        await rules.settled()
        assert (await budgets.spent(USER)).nanos == nanos, text
        assert "money=None" in text


def cut_with(usage: Usage) -> ModelUnavailable:
    error = ModelUnavailable("cut", after_s=0.0)
    error.usage = usage
    return error


async def test_what_an_agent_says_of_its_turns_goes_before_the_setting() -> None:
    stage = Stage(careful, Told(answer(40)), bank=bank(turn=Cap(tokens=100_000)))
    stage.job.turn_cap = Allowance(tokens=130).cap
    assert (await stage.play()).text.startswith("2 parts")
    with pytest.raises(ValueError, match="money is -1, give 0 or more"):
        Allowance(money=-1)


async def test_what_a_session_spent_before_counts() -> None:
    stage = Stage(careful, Told(answer(40)), bank=bank(session=Cap(tokens=200)))
    stage.job.spent = Spending(120, 0)
    assert (await stage.play()).text.startswith("1 parts; the budget of this session is 200 tokens, 170 tokens are")


async def test_a_store_that_does_not_answer_refuses_for_a_reason_that_passes() -> None:
    async def away(call: Call) -> None:
        raise StoreUnavailable("gone")

    async def asks(turn: AgentTurn, ctx: Context) -> None:
        await ctx.model()

    result = await Stage(asks, bank=bank(MemoryBudgets(away), user=Cap(tokens=1_000))).play()
    assert (result.code, result.message) == (Code.UNAVAILABLE, "budgets cannot be read: gone")


async def test_without_a_budget_nothing_is_reserved_and_no_call_is_changed() -> None:
    async def nobody_asks(call: Call) -> None:
        raise AssertionError(call)

    async def asks(turn: AgentTurn, ctx: Context) -> str:
        await ctx.model("hi", show=False)
        return str(ctx.spent)

    stage = Stage(asks, Told(answer(40)), bank=bank(MemoryBudgets(nobody_asks)))
    assert (await stage.play()).text == str(Spent(50, None, None, None))
    assert [request.max_tokens for request in stage.model.requests] == [None]
    assert caps_of(BudgetSettings()) == {}


def test_a_sessions_spending_is_folded_and_survives_a_snapshot() -> None:
    desk = Desk()
    for n in range(3):
        desk.turn(f"t{n}")
        desk.finish(usage=(Usage(model="m", input_tokens=10, output_tokens=n),))
    state = EMPTY
    for version, entry in enumerate(desk.log.entries, 1):
        state = fold(state, version, entry)
    assert state.spent == Spending(33, 0)
    stored = Snapshot.model_validate_json(snapshot_of(state).model_dump_json(exclude_defaults=True))
    assert state_of(stored, ()).spent == state.spent


def test_an_estimate_is_higher_than_what_models_count() -> None:
    request = ModelRequest(session="s", turn="t", messages=(), system="word " * 1_000)
    assert 1_000 < input_tokens(request) < 2_000


def test_many_sessions_on_two_workers_keep_a_users_day() -> None:
    """What the provider bills in all is never above the budget, whoever asks, and most of it is used."""
    limit = 3_000

    @agent(name="asks", version="1")
    async def asks(turn: AgentTurn, ctx: Context) -> str:
        for n in range(3):
            await ctx.model(f"say {n}", show=False, max_tokens=40)
        return "done"

    async def lived() -> tuple[int, dict[str, int], Spending]:
        fleet = MemoryFleet(asks, default="asks")
        fleet.clock_ms = lambda: NOON_MS + int(asyncio.get_running_loop().time() * 1000)
        fleet.cluster.clock_ms = fleet.clock_ms
        fleet.store = MemoryStore()
        model = ScriptedModel(lambda _: Script(tokens=["a"] * 38, first_s=0.01), coalesce_s=0)
        fleet.models, fleet.caps = ModelCaller(model, ModelSettings()), {"user": Cap(tokens=limit)}
        async with fleet:
            workers = [await fleet.worker(), await fleet.worker()]
            for n in range(60):
                fleet.turn(f"s{n}", "go", turn=f"t{n}", user="ann")
            await fleet.until(lambda: len(fleet.terminals()) == 60, timeout_s=30)
            for worker in workers:
                await worker.system.executor.services.bank.settled()
            codes = [frame.get("code", "done") for frames in fleet.terminals().values() for frame in frames]
            billed = sum(38 + 2 for call in model.calls if call.whole)
            return billed, {code: codes.count(code) for code in set(codes)}, await fleet.store.budgets.spent(USER)

    billed, codes, spent = run(lived())
    assert billed <= limit
    assert billed > limit - 200
    assert spent.tokens == billed
    assert set(codes) <= {"done", "quota"}
    assert codes["quota"] > 10
