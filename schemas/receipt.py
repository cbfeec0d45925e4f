"""What one turn cost, on `agent.usage`: time by hop, tokens, money. First parts now; the ledger completes it later."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
from orjson import Fragment
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

    def as_json(self) -> dict[str, Any]:
        """What orjson takes for it: without what is zero, empty or unknown."""
        hops = self.hops
        times = {"queue_us": hops.queue_us, "model_us": hops.model_us, "agent_us": hops.agent_us}
        if hops.claim_us or hops.write_us:
            times |= {"claim_us": hops.claim_us, "write_us": hops.write_us}
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
        }
        if self.usage:
            said["usage"] = Fragment(_USAGE.dump_json(self.usage, exclude_none=True))
        if self.money is not None:
            said["money"] = self.money
        if self.model_calls:
            said["model_calls"] = self.model_calls
        if self.retries:
            said["retries"] = self.retries
        return said


RECEIPT: TypeAdapter[Receipt] = TypeAdapter(Receipt)
_USAGE: TypeAdapter[tuple[Usage, ...]] = TypeAdapter(tuple[Usage, ...])
