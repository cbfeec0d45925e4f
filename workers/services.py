"""What every turn of a worker shares: the model, the clock, processes to compute in, tools. Plain values; no turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from journal.port import Profiles
from workers.children import Children
from workers.ledger.bank import Bank
from workers.ledger.prices import NO_PRICES, Prices

if TYPE_CHECKING:
    from workers.models.retry import ModelCaller
    from workers.tools.tool import ToolSource


@dataclass(frozen=True, slots=True)
class Services:
    """`models`: the one owner of retries, over the configured model; `clock_ms`: the wall clock; `children`: where
    `ctx.compute` runs; `profiles`: of users; `count`: of a metric of the worker's, by its label; `clock_ns`: a
    monotonic clock, for hops; `prices`: what tokens cost; `tools`: those that the operator gives to agents, MCP
    servers; `bank`: what may be spent."""

    models: ModelCaller
    clock_ms: Callable[[], int]
    children: Children = field(default_factory=Children)
    profiles: Profiles | None = None
    count: Callable[[str, str], None] = lambda name, label: None
    clock_ns: Callable[[], int] = field(default_factory=lambda: time.perf_counter_ns)  # not the one of the import
    prices: Prices = NO_PRICES
    tools: ToolSource | None = None
    bank: Bank = field(default_factory=Bank)
