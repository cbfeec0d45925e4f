"""What every turn of a worker shares: the model, the clock. Plain values; knows no turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.models.retry import ModelCaller


@dataclass(frozen=True, slots=True)
class Services:
    """`models`: the one owner of retries, over the configured model; `clock_ms`: the wall clock."""

    models: ModelCaller
    clock_ms: Callable[[], int]
