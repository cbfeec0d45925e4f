"""What a client sends to begin a turn, over the WebSocket and HTTP alike. Knows nothing of records."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas.ids import AgentName, TurnId
from schemas.turn import IfBusy, Turn, TurnInput

# A week, as long as turns are kept on the topic.
MAX_TIMEOUT_MS = 604_800_000
TimeoutMs = Annotated[int, Field(ge=1, le=MAX_TIMEOUT_MS)]


class TurnRequest(TurnInput):
    """`timeout_ms` is a duration; the deadline is counted from the arrival at the gateway."""

    turn: TurnId | None = None
    agent: AgentName | None = None
    if_busy: IfBusy | None = None
    timeout_ms: TimeoutMs | None = None

    def as_turn(self, *, turn: str, tenant: str, user: str, deadline_ms: int) -> Turn:
        """The turn as it is published."""
        return Turn.trusted(
            turn=turn,
            tenant=tenant,
            user=user,
            deadline_ms=deadline_ms,
            agent=self.agent,
            if_busy=self.if_busy,
            text=self.text,
            parts=self.parts,
            metadata=self.metadata,
            options=self.options,
            tools=self.tools,
            history=self.history,
        )
