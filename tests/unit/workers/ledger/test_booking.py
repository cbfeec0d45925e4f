"""Receipts of whole workers against the provider's own ledger; of turns that end without another run; old ones."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import date
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from fleet.testing.virtual_loop import run
from schemas.control import CancelControl
from schemas.entries import Finish, Step
from schemas.frames import Usage
from schemas.receipt import RECEIPT, Hops, Receipt, Waste
from schemas.settings import ModelSettings
from tests.support.desk import Desk
from tests.support.memory_fleet import MemoryFleet
from workers.agent import AgentTurn, agent
from workers.context import Context
from workers.ledger.prices import Prices
from workers.models.port import ModelDone, ModelRequest, ModelUnavailable
from workers.models.retry import ModelCaller
from workers.models.scripted import Script, ScriptedModel

PRICES = Prices.of(
    {
        "currency": "EUR",
        "prices": [{"model": m, "from": date(2020, 1, 1), "input": 3, "output": 15} for m in ("a", "b")],
    }
)
USED = (Usage(model="a", input_tokens=7, output_tokens=2),)


class Provider(ScriptedModel):
    """Books what it tells, by itself."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, coalesce_s=0)
        self.billed: Counter[str] = Counter()

    def stream(self, request: ModelRequest) -> Any:
        answer = super().stream(request)
        run_, provider = answer._run, self

        async def billing(*args: Any) -> Any:
            async for piece in run_(*args):
                if isinstance(piece, ModelDone) and piece.usage is not None:
                    provider.billed[f"{piece.usage.model} input"] += piece.usage.input_tokens
                    provider.billed[f"{piece.usage.model} output"] += piece.usage.output_tokens
                yield piece

        answer._run = billing  # type: ignore[method-assign,assignment]
        return answer


@agent(name="asks", version="1")
async def asks(turn: AgentTurn, ctx: Context) -> str:
    await asyncio.gather(*(ctx.model(f"{n} {turn.text}", show=False, model="ab"[n % 2]) for n in range(3)))
    if turn.text == "fails":
        raise RuntimeError("after it was paid for")
    if turn.text == "strange":
        await ctx.model("who?", show=False, model="x")
    return "done"


def scripts() -> Any:
    cut: list[str] = []

    def answer(request: ModelRequest) -> Script:
        if "cut" in request.messages[0].text and request.messages[0].text not in cut:
            cut.append(request.messages[0].text)
            return Script(cut_after=1, error=ModelUnavailable("cut"))
        return Script(first_s=0.01)

    return answer


def test_receipts_say_what_the_providers_own_ledger_says() -> None:
    async def lived() -> tuple[list[dict[str, Any]], Counter[str], str]:
        fleet = MemoryFleet(asks, default="asks")
        provider = Provider(scripts())
        fleet.models, fleet.prices = ModelCaller(provider, ModelSettings()), PRICES
        async with fleet:
            worker = await fleet.worker()
            for n, text in enumerate(("one", "two words", "cut", "fails", "strange")):
                fleet.turn(f"s{n % 2}", text, turn=f"t{n}")
            await fleet.until(lambda: len(fleet.records("agent.usage")) == 5)
            registry = CollectorRegistry()
            registry.register(worker.system.metrics)
            receipts = [json.loads(record.value) for record in fleet.records("agent.usage")]
            return receipts, provider.billed, generate_latest(registry).decode()

    receipts, billed, metrics = run(lived())
    booked: Counter[str] = Counter()
    guessed: list[dict[str, Any]] = []
    for receipt in receipts:
        for usage in receipt["usage"]:
            if "estimated" in usage:
                guessed.append(usage)
                continue
            booked[f"{usage['model']} input"] += usage["input_tokens"]
            booked[f"{usage['model']} output"] += usage["output_tokens"]
        assert RECEIPT.validate_json(json.dumps(receipt)).whole_us == sum(receipt["hops"].values())
    assert booked == billed
    assert sum(booked.values()) > 90
    by_turn = {receipt["turn"]: receipt for receipt in receipts}
    assert [("money" in by_turn[turn], by_turn[turn].get("unpriced")) for turn in ("t3", "t4")] == [
        (True, None),
        (False, ["x"]),
    ]
    cut = sorted((usage["model"], usage["input_tokens"], usage["output_tokens"]) for usage in guessed)
    assert cut == [("a", 2 * 10, 2 * 2), ("b", 10, 2)]  # "n cut": five bytes, two tokens and a message's eight
    assert by_turn["t2"]["waste"] == {"attempts": 0, "untold_calls": 3}
    one = by_turn["t0"]
    assert one["currency"] == "EUR"
    tokens = {kind: sum(usage[f"{kind}_tokens"] for usage in one["usage"]) for kind in ("input", "output")}
    assert one["money"] * 1e6 == tokens["input"] * 3 + tokens["output"] * 15
    assert f'fleet_worker_tokens_total{{kind="input",model="x"}} {float(billed["x input"])}' in metrics
    assert 'fleet_worker_unpriced_total{model="x"} 1.0' in metrics
    assert 'fleet_worker_money_total{currency="EUR",kind="output",model="a"}' in metrics


def step(turn: str, number: int, at_ms: int, *, attempt: int = 1) -> Step:
    return Step(
        at_ms=at_ms,
        turn=turn,
        attempt=attempt,
        step=number,
        kind="model",
        name="model",
        digest="d",
        result={"finish": "stop", "text": "x", "untold": 1},
        usage=USED,
        took=(4_000, 0, 500, 100),
    )


def receipt_of(desk: Desk) -> Receipt:
    receipt = next(entry.receipt for entry in desk.log.entries if isinstance(entry, Finish))
    assert receipt is not None
    return receipt


def test_a_turn_that_is_given_up_says_what_its_steps_cost() -> None:
    first = Desk()
    first.turn("t1")
    began_ms = first.now_ms
    first.now_ms += 10
    first.do(first.session.step(step("t1", 0, first.now_ms), first.now_ms))
    for _ in range(4):  # the process dies each time
        first.now_ms += 1_000
        desk = Desk(first.log)
        desk.now_ms = first.now_ms
        desk.turn("t1", offset=0)
        first = desk
    receipt = receipt_of(desk)
    assert (receipt.outcome, receipt.usage, receipt.model_calls) == ("failed", USED, 1)
    assert receipt.waste == Waste(attempts=4, untold_calls=1)  # one with a step, three in a row without
    assert (receipt.hops.model_us, receipt.hops.lost_us) == (4_000, (desk.now_ms - began_ms - 10) * 1_000)
    assert receipt.unpriced == ("a",)


def test_a_turn_that_is_cancelled_while_it_waits_for_a_decision_was_suspended_not_lost() -> None:
    desk = Desk()
    desk.turn("t1")
    desk.now_ms += 50
    desk.suspend("c")
    desk.now_ms += 7_000
    desk.control(CancelControl(kind="cancel", op="o", tenant="default", user="u", turn="t1"))
    receipt = receipt_of(desk)
    assert receipt.outcome == "cancelled"
    assert (receipt.hops.suspended_us, receipt.hops.lost_us, receipt.waste) == (7_000_000, 0, None)
    assert receipt.hops.claim_us == 50_000


def test_a_turn_whose_session_is_deleted_while_it_runs_is_booked() -> None:
    @agent(name="stays", version="1")
    async def stays(turn: AgentTurn, ctx: Context) -> None:
        await ctx.model("hi", show=False, model="a")
        await asyncio.sleep(3_600)

    async def lived() -> list[dict[str, Any]]:
        fleet = MemoryFleet(stays, default="stays")
        fleet.models, fleet.prices = ModelCaller(Provider(scripts()), ModelSettings()), PRICES
        async with fleet:
            await fleet.worker()
            fleet.turn("s1", "go", turn="t1", user="u")
            await fleet.until(lambda: fleet.frames("s1", "step"))
            fleet.control("s1", kind="delete", op="o", user="u")
            await fleet.until(lambda: fleet.records("agent.usage"))
            return [json.loads(record.value) for record in fleet.records("agent.usage")]

    (receipt,) = run(lived())
    assert (receipt["turn"], receipt["outcome"], receipt["model_calls"]) == ("t1", "cancelled", 1)
    assert receipt["usage"][0]["model"] == "a"
    assert receipt["money"] > 0
    assert receipt["whole_us"] == sum(receipt["hops"].values())


def test_a_reader_is_told_that_money_is_unknown_and_of_which_model() -> None:
    """As `GET …/turns/{tid}` shows it."""
    receipt = Receipt("default", "s", "t", "u", "chat", "completed", 1, 5, usage=USED, unpriced=("a",))
    shown = RECEIPT.dump_python(receipt, mode="json", exclude_none=True)
    assert ("money" in shown, shown["unpriced"]) == (False, ["a"])
    paid = Receipt("default", "s", "t", "u", "chat", "completed", 1, 5, usage=USED, money=0.5, currency="EUR")
    shown = RECEIPT.dump_python(paid, mode="json", exclude_none=True)
    assert (shown["money"], shown["currency"], shown["unpriced"]) == (0.5, "EUR", [])


def test_a_receipt_of_before_is_read_as_it_is() -> None:
    old = {
        "tenant": "default", "session": "s", "turn": "t", "user": "u", "agent": "echo", "outcome": "completed",
        "attempt": 1, "at_ms": 5, "hops": {"queue_us": 7, "model_us": 0, "agent_us": 3},
    }  # fmt: skip
    assert RECEIPT.validate_json(json.dumps(old)) == Receipt(
        "default", "s", "t", "u", "echo", "completed", 1, 5, Hops(queue_us=7, agent_us=3)
    )
