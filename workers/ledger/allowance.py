"""What may be spent on a turn, a session, by a user or a tenant. Plain values; knows no turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from journal.port import Cap
from schemas.settings import BudgetSettings
from workers.ledger.prices import NANOS

SCOPES = ("turn", "session", "user", "day")


@dataclass(frozen=True, slots=True)
class Allowance:
    """At most so many tokens, so much money in the currency of the price table; None: no limit."""

    tokens: int | None = None
    money: float | None = None

    def __post_init__(self) -> None:
        for what, limit in (("tokens", self.tokens), ("money", self.money)):
            if limit is not None and not limit >= 0:
                raise ValueError(f"{what} is {limit}, give 0 or more")

    @property
    def cap(self) -> Cap | None:
        """None where there is no limit."""
        if self.tokens is None and self.money is None:
            return None
        return Cap(self.tokens, None if self.money is None else round(self.money * NANOS))


class Spent(NamedTuple):
    """What a turn has spent so far. `money` None: nobody knows (a model without a price, no price table).
    `tokens_left`, `money_left`: of its own budget or its session's, less what is being asked now; None: no limit."""

    tokens: int
    money: float | None
    tokens_left: int | None
    money_left: float | None


def caps_of(settings: BudgetSettings) -> dict[str, Cap]:
    """By scope, as far as there is a limit."""
    caps = {}
    for scope in SCOPES:
        tokens, money = getattr(settings, f"budget_{scope}_tokens"), getattr(settings, f"budget_{scope}_money")
        cap = Allowance(tokens or None, money or None).cap
        if cap is not None:
            caps[scope] = cap
    return caps
