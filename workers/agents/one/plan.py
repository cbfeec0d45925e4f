"""The plan: a short list of what is to be done, written whole by the model, shown as it changes. Pure; no context."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

MAX_ITEMS = 50


class Item(BaseModel):
    """One thing to do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = Field(min_length=1, max_length=300)
    status: Literal["pending", "in_progress", "done"] = "pending"


class WritePlan(BaseModel):
    """Write down the plan for a task of several steps, and again whenever it changes; it replaces the earlier one
    whole, and the user sees it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    todos: list[Item] = Field(max_length=MAX_ITEMS)


class Plan:
    """`items`: as they are kept (JSON) and shown."""

    def __init__(self, items: JsonValue = None) -> None:
        self.items: list[Item] = [Item.model_validate(item) for item in items] if isinstance(items, list) else []

    def write(self, given: WritePlan) -> str:
        """The new plan; what the model is told."""
        self.items = list(given.todos)
        done = sum(item.status == "done" for item in self.items)
        return f"The plan has {len(self.items)} items, {done} done."

    def as_json(self) -> list[JsonValue]:
        """As it is kept and shown."""
        return [item.model_dump() for item in self.items]

    @property
    def left(self) -> list[str]:
        """What is not done."""
        return [item.text for item in self.items if item.status != "done"]
