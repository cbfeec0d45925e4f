"""What one turn cost, on `agent.usage`: time by hop, tokens, money. First parts now; the ledger completes it later."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import TypeAdapter

from schemas.frames import Usage


@dataclass(slots=True)
class Hops:
    """Time by hop in microseconds, on the worker's clock; `queue` on the record's timestamp."""

    queue_us: int = 0
    claim_us: int = 0
    model_us: int = 0
    agent_us: int = 0
    write_us: int = 0


@dataclass(slots=True)
class Receipt:
    """One finished turn. `money` is None where no price is known, never zero."""

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


RECEIPT: TypeAdapter[Receipt] = TypeAdapter(Receipt)
