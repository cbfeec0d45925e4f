"""Control records, the value on `agent.control`: commands about a session or a turn, each with a caller's op id."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter

from schemas.base import Frozen
from schemas.ids import AgentName, OpId, TenantId, TurnId, UserId
from schemas.turn import IfBusy


class _Control(Frozen):
    op: OpId
    tenant: TenantId = "default"
    user: UserId = "anonymous"


class OpenControl(_Control):
    """Create the session ahead of its first turn."""

    kind: Literal["open"] = "open"
    agent: AgentName | None = None
    if_busy: IfBusy | None = None


class CancelControl(_Control):
    kind: Literal["cancel"] = "cancel"
    turn: TurnId


class SteerControl(_Control):
    """Say something to the running turn: it joins it at its next step."""

    kind: Literal["steer"] = "steer"
    turn: TurnId
    text: str


class ApproveControl(_Control):
    """A decision on the call that a suspended turn waits for."""

    kind: Literal["approve"] = "approve"
    turn: TurnId
    call: str
    decision: Literal["allow", "deny"]
    arguments: dict[str, JsonValue] | None = None
    answer: JsonValue = None
    note: str | None = None


class WatchControl(_Control):
    """Publish this session's frames to `reply_to` of the record as well, until the turn ends."""

    kind: Literal["watch"] = "watch"
    turn: TurnId | None = None


class DeleteControl(_Control):
    """Forget the session: contents, snapshots, blobs."""

    kind: Literal["delete"] = "delete"


class ExpireControl(_Control):
    """The sweep found the session idle beyond its time; the owner decides on the journal's state."""

    kind: Literal["expire"] = "expire"


class ReleaseControl(_Control):
    """An operator has redriven (as `turn`) or discarded (None) the dead letter that the session's quarantine is for."""

    kind: Literal["release"] = "release"
    letter: str
    turn: TurnId | None = None


Control = Annotated[
    OpenControl
    | CancelControl
    | SteerControl
    | ApproveControl
    | WatchControl
    | DeleteControl
    | ExpireControl
    | ReleaseControl,
    Field(discriminator="kind"),
]
CONTROL: TypeAdapter[Control] = TypeAdapter(Control)
