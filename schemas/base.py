"""The base of every model that travels or is stored. Knows nothing of what the models say."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable, strict about types, deaf to fields it does not know (readers ignore unknown fields)."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")
