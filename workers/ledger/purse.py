"""What one turn may still spend: asked before each model call, told after it. Knows no model and no store.

What a call may cost is reserved before it (its input, estimated high, and its `max_tokens`, at the dearest of the
models that may answer) and given back after it but for what it did cost. Of a call whose tokens nobody told, what was
reserved counts as spent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from journal.port import Cap
from schemas.codes import Code
from schemas.errors import TerminalError
from schemas.frames import Usage
from schemas.receipt import Spending
from workers.ledger.allowance import Spent
from workers.ledger.bank import Part
from workers.ledger.booking import cost_of
from workers.ledger.estimate import input_tokens
from workers.ledger.prices import NANOS
from workers.ledger.tally import Tally

if TYPE_CHECKING:
    from workers.job import Job
    from workers.models.port import ModelRequest
    from workers.services import Services


class Hold(NamedTuple):
    """What is reserved for one call."""

    amount: Spending
    parts: tuple[Part, ...] = ()


class Purse:
    """One turn's. `tally`: what it has used, of earlier attempts too."""

    __slots__ = ("_bank", "_held", "_job", "_lost", "_models", "_prices", "_tally")

    def __init__(self, job: Job, tally: Tally, services: Services) -> None:
        self._job = job
        self._tally = tally
        self._bank = services.bank
        self._prices = services.prices
        self._models = services.models
        self._held = Spending()
        self._lost = Spending()  # of calls whose tokens nobody told

    @property
    def limited(self) -> bool:
        """Whether there is any budget."""
        return bool(self._bank.caps or self._job.turn_cap or self._job.session_cap)

    def capped(self, request: ModelRequest) -> int:
        """The `max_tokens` of this call, that what it may cost has a bound."""
        return request.max_tokens if request.max_tokens is not None else self._bank.output_tokens

    async def reserve(self, request: ModelRequest) -> Hold:
        """Raises TerminalError(quota) where the call may cost more than is left of a budget, RetryableError where
        nobody can say."""
        amount = Spending(input_tokens(request) + self.capped(request), 0)
        if self._counts_money:
            amount = self._priced(request, amount.tokens)
        for scope, cap, spent in self._own():
            if not cap.allows(spent.plus(amount)):
                raise self._refused(scope, cap, amount, spent)
        self._held = self._held.plus(amount)
        info = self._job.info
        try:
            parts, refused = await self._bank.reserve(
                info.tenant, info.user, amount, until_ms=self._job.turn.deadline_ms
            )
        except BaseException:
            self._held = _less(self._held, amount)
            raise
        if refused is not None:
            self._held = _less(self._held, amount)
            raise self._refused(refused, self._bank.caps[refused], amount)
        return Hold(amount, parts)

    def settle(self, hold: Hold, told: tuple[Usage, ...], *, untold: bool) -> None:
        """The call is over and the tally has what was `told`. `untold`: that is not all."""
        nanos, unpriced = cost_of(told, self._prices, self._job.turn.began_ms)
        tokens = sum(usage.input_tokens + usage.output_tokens for usage in told)
        known = Spending(tokens, max(nanos, hold.amount.nanos) if unpriced else nanos)
        spent = known
        if untold:
            spent = Spending(max(tokens, hold.amount.tokens), max(nanos, hold.amount.nanos))
        self._held = _less(self._held, hold.amount)
        self._lost = self._lost.plus(_less(spent, Spending(tokens, nanos)))
        self._bank.settle(hold.parts, spent)

    @property
    def spent(self) -> Spent:
        """So far."""
        tally = self._tally
        nanos, unpriced = cost_of(tally.usage, self._prices, self._job.turn.began_ms)
        known = self._prices.currency and not unpriced
        tokens_left = [cap.tokens - spent.tokens for _, cap, spent in self._own() if cap.tokens is not None]
        nanos_left = [cap.nanos - spent.nanos for _, cap, spent in self._own() if cap.nanos is not None]
        return Spent(
            tally.tokens,
            nanos / NANOS if known else None,
            max(min(tokens_left), 0) if tokens_left else None,
            max(min(nanos_left), 0) / NANOS if nanos_left else None,
        )

    def _own(self) -> list[tuple[str, Cap, Spending]]:
        """The budgets that this turn alone draws on: scope, cap, what is spent and held."""
        job, found = self._job, []
        turn = job.turn_cap or self._bank.caps.get("turn")
        session = job.session_cap or self._bank.caps.get("session")
        if turn is None and session is None:
            return []
        nanos, _ = cost_of(self._tally.usage, self._prices, job.turn.began_ms)
        spent = Spending(self._tally.tokens, nanos).plus(self._lost).plus(self._held)
        if turn is not None:
            found.append(("turn", turn, spent))
        if session is not None:
            found.append(("session", session, spent.plus(job.spent)))
        return found

    @property
    def _counts_money(self) -> bool:
        caps = (*self._bank.caps.values(), self._job.turn_cap, self._job.session_cap)
        return any(cap is not None and cap.nanos is not None for cap in caps)

    def _priced(self, request: ModelRequest, tokens: int) -> Spending:
        nanos, output = 0, self.capped(request)
        for name in (request.model or self._models.default, *request.fallbacks):
            price = self._prices.dearest(name, self._job.turn.began_ms)
            if price is None:
                self._bank.count("unpriced")
                raise TerminalError(
                    Code.QUOTA,
                    f"model {name} has no price, so that no budget in money can be kept; add it to FLEET_PRICES",
                )
            nanos = max(nanos, round(((tokens - output) * price[0] + output * price[1]) * 1_000))
        return Spending(tokens, nanos)

    def _refused(self, scope: str, cap: Cap, amount: Spending, spent: Spending | None = None) -> TerminalError:
        self._bank.count(scope)
        whose = {"turn": "this turn", "session": "this session", "user": "this user's day", "day": "this tenant's day"}
        limits, may, so_far = [], [], []
        if cap.tokens is not None:
            limits.append(f"{cap.tokens} tokens")
            may.append(f"{amount.tokens} tokens")
            so_far.append(f"{spent.tokens} tokens" if spent else "")
        if cap.nanos is not None:
            currency = self._prices.currency
            limits.append(f"{cap.nanos / NANOS:g} {currency}")
            may.append(f"{amount.nanos / NANOS:g} {currency}")
            so_far.append(f"{spent.nanos / NANOS:g} {currency}" if spent else "")
        used = f", {' and '.join(so_far)} are spent or reserved" if spent is not None else ""
        text = f"the budget of {whose[scope]} is {' and '.join(limits)}{used}; this call may take {' and '.join(may)}"
        return TerminalError(Code.QUOTA, text)


def _less(one: Spending, other: Spending) -> Spending:
    return Spending(one.tokens - other.tokens, one.nanos - other.nanos)
