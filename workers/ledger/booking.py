"""Makes a turn's receipt at its end, of what the journal holds and what its last attempt did. Pure; decides nothing.

The hops add up to the whole by construction: what is measured is subtracted from the time between the record's arrival
and now, and what is left is `claim`. Wall clocks say milliseconds, and of several workers: where they say less than was
measured, the whole is what was measured.
"""

from __future__ import annotations

from journal.state import OpenTurn, State
from schemas.entries import Step, Suspend
from schemas.frames import Usage
from schemas.ids import split_key
from schemas.receipt import Hops, Receipt, Spending, Waste
from workers.ledger.prices import NANOS, Prices
from workers.ledger.tally import Tally
from workers.result import Result


def receipt_of(key: str, state: State, turn: OpenTurn, result: Result, *, now_ms: int, prices: Prices) -> Receipt:
    """The receipt of the open turn, which ends now with this result."""
    tenant, session = split_key(key)
    arrived_ms, began_ms = turn.position.timestamp_ms, turn.began_ms
    queue_us = (began_ms - arrived_ms) * 1_000 if 0 < arrived_ms < began_ms else 0
    hops, waste = Hops(queue_us, 0, result.model_us, result.agent_us, result.write_us, result.tools_us), None
    known_us = result.model_us + result.agent_us + result.write_us + result.tools_us
    if turn.attempt > 1 or result.unrun:
        waste = _earlier(hops, turn, result, now_ms)
        known_us = hops.model_us + hops.agent_us + hops.write_us + hops.tools_us + hops.suspended_us + hops.lost_us
    elif result.untold_calls:
        waste = Waste(0, result.untold_calls)
    left_us = (now_ms - began_ms) * 1_000 - known_us
    if left_us > 0:
        hops.claim_us = left_us
        known_us += left_us
    receipt = Receipt(
        tenant,
        session,
        turn.turn,
        turn.user,
        state.opened.agent if state.opened else "",
        result.outcome,
        turn.attempt,
        now_ms,
        hops,
        result.usage,
        None,
        result.model_calls,
        result.retries,
        queue_us + known_us,
    )
    if waste is not None:
        receipt.waste = waste
    if result.usage:
        _price(receipt, prices, began_ms)
    return receipt


def told_by_steps(turn: OpenTurn, result: Result) -> None:
    """A turn that is not run again has used what its durable steps say."""
    tally = Tally.of(turn.steps)
    result.usage, result.model_calls, result.untold_calls = tally.usage, tally.calls, tally.untold


def spent_by(turn: OpenTurn, prices: Prices) -> Spending:
    """What the durable steps of a turn that is not over have spent."""
    usage = Tally.of(turn.steps).usage
    nanos, unpriced = cost_of(usage, prices, turn.began_ms)
    return Spending(sum(it.input_tokens + it.output_tokens for it in usage), 0 if unpriced else nanos)


def unfinished(key: str, state: State, turn: OpenTurn, *, now_ms: int, prices: Prices) -> Receipt:
    """The receipt of the open turn of a session that is closed now. What its attempt did since its last durable step,
    if one runs, is `lost`."""
    result = Result("cancelled", by="delete", unrun=True)
    told_by_steps(turn, result)
    return receipt_of(key, state, turn, result, now_ms=now_ms, prices=prices)


def _earlier(hops: Hops, turn: OpenTurn, result: Result, now_ms: int) -> Waste | None:
    """Add what earlier attempts did, and how long none ran. What was wasted, if anything was."""
    suspended_ms, lost_ms = turn.idle_ms(now_ms) if result.unrun else (turn.suspended_ms, turn.lost_ms)
    hops.suspended_us, hops.lost_us = suspended_ms * 1_000, lost_ms * 1_000
    durable: tuple[Step | Suspend, ...] = (*turn.steps, *turn.asked)
    for entry in durable:
        if entry.took and (entry.attempt < turn.attempt or result.unrun):
            model, tools, write, agent = entry.took
            hops.model_us += model
            hops.tools_us += tools
            hops.write_us += write
            hops.agent_us += agent
    ended = turn.attempt if result.unrun else turn.attempt - 1
    died = max(ended - len(turn.asked) - turn.handed, 0)
    return Waste(died, result.untold_calls) if died or result.untold_calls else None


def _price(receipt: Receipt, prices: Prices, at_ms: int) -> None:
    """Money, or which models have no price: then there is none, not even of the others."""
    nanos, unpriced = cost_of(receipt.usage, prices, at_ms)
    if unpriced:
        receipt.unpriced = unpriced
    else:
        receipt.money, receipt.currency = nanos / NANOS, prices.currency


def cost_of(usage: tuple[Usage, ...], prices: Prices, at_ms: int) -> tuple[int, tuple[str, ...]]:
    """Billionths of the currency, and the models that have no price and are not in it."""
    nanos, unpriced = 0, []
    for each in usage:
        cost = prices.cost(each, at_ms)
        if cost is None:
            unpriced.append(each.model)
        else:
            nanos += sum(cost)
    return nanos, tuple(unpriced)
