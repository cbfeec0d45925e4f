"""A user's profile as it is stored: versioned, per tenant and user. Injected and edited by a later issue."""

from __future__ import annotations

from pydantic import Field, JsonValue

from schemas.base import Frozen
from schemas.ids import TenantId, UserId


class Profile(Frozen):
    """`version` rises with every change; `summary` is what may be injected, `facts` are read by a tool."""

    tenant: TenantId
    user: UserId
    version: int = Field(ge=0)
    summary: str = Field(default="", max_length=4_096)
    facts: dict[str, JsonValue] = Field(default_factory=dict)
    updated_ms: int = 0
