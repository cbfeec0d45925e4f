"""Alerts as they are published to `agent.alerts`. Nothing of what raises them."""

from __future__ import annotations

from pydantic import Field, JsonValue

from schemas.base import Frozen


class Alert(Frozen):
    """Something that an operator should look at: its kind, what it is about, since when (epoch ms), what was seen."""

    kind: str
    subject: str
    since_ms: int
    evidence: dict[str, JsonValue] = Field(default_factory=dict)
