"""What one turn cost, in its FINISH and on `agent.usage`: time by hop, tokens, money, waste. Knows no price table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from orjson import Fragment
from pydantic import TypeAdapter

from schemas.frames import Usage


class Spending(NamedTuple):
    """Tokens, and money in billionths of the currency."""

    tokens: int = 0
    nanos: int = 0

    def plus(self, other: Spending) -> Spending:
        """Both together."""
        return Spending(self.tokens + other.tokens, self.nanos + other.nanos)


NOTHING = Spending()


@dataclass(slots=True)
class Hops:
    """Time by hop in microseconds; they add up to the receipt's `whole_us`. `queue`: until the first CLAIM; `claim`:
    what claiming takes, and building the agent; `model`, `tools`, `write` (entries), `agent` (its own code): of every
    attempt as far as it is durable, each moment in one of them; `suspended`: no attempt ran, a decision was awaited;
    `lost`: of attempts that ended with their process, from the last durable step until somebody took over."""

    queue_us: int = 0
    claim_us: int = 0
    model_us: int = 0
    agent_us: int = 0
    write_us: int = 0
    tools_us: int = 0
    suspended_us: int = 0
    lost_us: int = 0


@dataclass(slots=True)
class Waste:
    """What was done for nothing, as far as it is known. `attempts`: that ended with their process (their time is
    `lost_us`; what they had asked of a model and not written down is not known); `untold_calls`: tries of model calls
    of which no provider told the tokens, cut ones mostly: in `usage` and `money` they are estimated."""

    attempts: int = 0
    untold_calls: int = 0


class _Encoded:
    __slots__ = ("_json",)
    _json: bytes

    def encode(self) -> bytes:
        """As it is stored and published, made once: what was encoded is not changed any more."""
        try:
            return self._json
        except AttributeError:
            self._json = orjson.dumps(self.as_json())
            return self._json

    def as_json(self) -> dict[str, Any]:
        raise NotImplementedError


@dataclass(slots=True)
class Receipt(_Encoded):
    """One finished turn. `whole_us`: from its record's arrival until its FINISH is made (writing that and publishing
    come after it: see the metrics). `money`, in `currency`: of all `usage`; None where nothing was used, or a model has
    no price: then `unpriced` says which, and it is never zero. `quality`: signals by name."""

    tenant: str
    session: str
    turn: str
    user: str
    agent: str
    outcome: str
    attempt: int
    at_ms: int
    hops: Hops = field(default_factory=Hops)
    usage: tuple[Usage, ...] = ()
    money: float | None = None
    model_calls: int = 0
    retries: int = 0
    whole_us: int = 0
    currency: str = ""
    unpriced: tuple[str, ...] = ()
    waste: Waste | None = None
    quality: dict[str, float] | None = None

    def as_json(self) -> dict[str, Any]:
        """What orjson takes for it: without what is zero, empty or unknown."""
        hops = self.hops
        times = {
            "queue_us": hops.queue_us,
            "claim_us": hops.claim_us,
            "model_us": hops.model_us,
            "agent_us": hops.agent_us,
        }
        if hops.write_us or hops.tools_us:
            times |= {"write_us": hops.write_us, "tools_us": hops.tools_us}
        if hops.suspended_us or hops.lost_us:
            times |= {"suspended_us": hops.suspended_us, "lost_us": hops.lost_us}
        said: dict[str, Any] = {
            "tenant": self.tenant,
            "session": self.session,
            "turn": self.turn,
            "user": self.user,
            "agent": self.agent,
            "outcome": self.outcome,
            "attempt": self.attempt,
            "at_ms": self.at_ms,
            "hops": times,
            "whole_us": self.whole_us,
        }
        if self.usage:
            said["usage"] = Fragment(_USAGE.dump_json(self.usage, exclude_none=True))
        if self.money is not None or self.unpriced:
            self._cost(said)
        if self.model_calls:
            said["model_calls"] = self.model_calls
        if self.retries:
            said["retries"] = self.retries
        if self.waste is not None:
            said["waste"] = {"attempts": self.waste.attempts, "untold_calls": self.waste.untold_calls}
        if self.quality:
            said["quality"] = self.quality
        return said

    def _cost(self, said: dict[str, Any]) -> None:
        if self.money is not None:
            said["money"] = self.money
        if self.currency:
            said["currency"] = self.currency
        if self.unpriced:
            said["unpriced"] = self.unpriced


def spending_of(receipt: Receipt) -> Spending:
    """What a session has spent by this turn; what has no price is not in the money."""
    tokens = sum(usage.input_tokens + usage.output_tokens for usage in receipt.usage)
    return Spending(tokens, round((receipt.money or 0) * 1_000_000_000))


RECEIPT: TypeAdapter[Receipt] = TypeAdapter(Receipt)
_USAGE: TypeAdapter[tuple[Usage, ...]] = TypeAdapter(tuple[Usage, ...])
