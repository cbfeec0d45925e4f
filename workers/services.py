"""What every turn of a worker shares: the model, the clock, processes to compute in. Plain values; knows no turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from journal.port import Profiles
from workers.children import Children

if TYPE_CHECKING:
    from workers.models.retry import ModelCaller


@dataclass(frozen=True, slots=True)
class Services:
    """`models`: the one owner of retries, over the configured model; `clock_ms`: the wall clock; `children`: where
    `ctx.compute` runs; `profiles`: of users; `count`: of a metric of the worker's, by its label."""

    models: ModelCaller
    clock_ms: Callable[[], int]
    children: Children = field(default_factory=Children)
    profiles: Profiles | None = None
    count: Callable[[str, str], None] = lambda name, label: None
