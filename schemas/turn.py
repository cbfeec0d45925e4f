"""A turn as it is published to `agent.turns`: the value of the record. Nothing of records or headers."""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter

from schemas.base import Frozen
from schemas.ids import AgentName, TenantId, TurnId, UserId
from schemas.parts import Part

IfBusy = Literal["enqueue", "reject", "interrupt", "rollback", "steer"]

_NANOSECOND_PROOF_MS = 10**15
DeadlineMs = Annotated[int, Field(ge=10**12, lt=_NANOSECOND_PROOF_MS)]


class GivenItem(Frozen):
    """A message of a history that the producer brings along, only on a session's first turn."""

    role: Literal["user", "assistant"]
    text: str


class TurnInput(Frozen):
    """What the user brought, as the journal keeps it: `text` comes before `parts`."""

    text: str = ""
    parts: tuple[Part, ...] = ()
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    options: dict[str, JsonValue] | None = None
    tools: tuple[str, ...] | None = None
    history: tuple[GivenItem, ...] | None = None

    @property
    def plain(self) -> bool:
        """Nothing but text: what most turns are."""
        if self.parts or self.metadata:
            return False
        return self.options is None and self.tools is None and self.history is None


class Turn(TurnInput):
    """The value of a turn record. The smallest valid one is `{"text":"hi"}`."""

    turn: TurnId | None = None
    tenant: TenantId = "default"
    user: UserId = "anonymous"
    agent: AgentName | None = None
    deadline_ms: DeadlineMs | None = None
    if_busy: IfBusy | None = None


def turn_of(given: TurnInput, **more: object) -> Turn:
    """A turn's record made anew of its input. `more`: the other fields, as trusted as the input is."""
    return Turn(**{name: getattr(given, name) for name in TurnInput.model_fields}, **more)  # type: ignore[arg-type]


_REST: TypeAdapter[tuple[object, ...]] = TypeAdapter(tuple[object, ...])


def digest(turn: Turn) -> str:
    """32 hex digits over what the turn says: other content under a known id is a conflict.

    The deadline and `if_busy` are not part of it: a client's retry carries a new deadline.
    """
    said = f"{turn.user}\0{turn.text}".encode()
    if turn.agent or not turn.plain:
        rest = (turn.agent, turn.parts, turn.metadata, turn.options, turn.tools, turn.history)
        said += b"\0" + _REST.dump_json(rest)
    return blake2b(said, digest_size=16).hexdigest()
