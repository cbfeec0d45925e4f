"""The journal of a worker that claimed a turn and died, for tests of turns that are tried too often."""

from __future__ import annotations

from typing import Any

from journal.port import Store
from journal.rows import row_of
from schemas.codec import parse_turn
from schemas.entries import Claim, Open, Position
from schemas.turn import TurnInput, digest


async def claimed(store: Store, record: Any, *, agent: str = "echo") -> None:
    """The first CLAIM of this record's turn; it opens the session."""
    turn = parse_turn(record.value)
    assert turn.turn is not None
    entry = Claim(
        at_ms=record.timestamp,
        turn=turn.turn,
        attempt=1,
        tries=1,
        worker="dead",
        user=turn.user,
        position=Position("agent.turns", record.partition, record.offset, record.timestamp),
        digest=digest(turn),
        deadline_ms=record.timestamp + 600_000,
        input=TurnInput(text=turn.text),
        opens=Open(at_ms=record.timestamp, user=turn.user, agent=agent, agent_version="1"),
    )
    await store.journal.insert([row_of(f"default/{record.key.decode()}", 1, entry, "n")])
