"""What a worker counts, in one place; docs/metrics.md lists it and a test compares. Knows prometheus-client.

The hot path adds to plain numbers; they become metrics when somebody scrapes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
HOPS = ("queue", "claim", "run", "finish", "publish")

COUNTERS: dict[str, str] = {
    "turns": "Turns that ended, by outcome",
    "turns_started": "Attempts that began",
    "takeovers": "Open turns that were taken over",
    "collisions": "Appends that met a version somebody else wrote",
    "known": "Turns that the journal knew already",
    "refused": "Records that went to the dead letters, by code",
    "moved": "Records published again to the partition of their key",
    "duplicates": "Records that came twice within an assignment",
    "rebalances": "Assignments of the consumer group",
    "given_up": "Partitions given up because membership was not proved",
    "controls": "Control ops, by kind",
    "suspends": "Times that a turn was suspended for a decision",
    "decisions": "Decisions on suspended turns, by decision",
    "timers": "Timers that were found due",
    "computes": "Calls in processes of their own, by outcome",
    "mcp_calls": "Calls of MCP tools, by server and outcome",
    "mcp_openings": "Connections to MCP servers that were opened, failed, were lost or closed, by server",
    "stalls": "Times that the loop was blocked for longer than FLEET_WORKER_STALL_WARN_S",
    "model_calls": "Model calls",
    "model_retries": "Model calls that were tried again",
    "model_retries_denied": "Model calls that were not tried again because the retry budget was empty",
    "model_fallbacks": "Model calls that another model took over",
    "model_waits": "Model calls that waited for a place at their provider",
    "model_breaker_opens": "Times that a model's breaker opened",
    "compactions": "Histories that were too long, by what became of them: summarised or dropped",
    "tokens": "Tokens of finished turns, by model and kind; the kinds add up",
    "money": "What they cost, by model and kind, in the currency of the price table",
    "unpriced": "Finished turns that used a model without a price, by model",
    "budget_refusals": "Model calls that were not made because a budget was used up, by whose; `unpriced`: or no price",
    "snapshots": "Snapshots written",
    "expired": "Sessions closed because they were idle",
    "memory_pauses": "Times that no more turns were read because memory was short",
    "pool_hits": "Records whose session was warm",
    "pool_misses": "Records whose session was not warm",
    "pool_evictions": "Warm sessions dropped, by reason",
    "builds": "Agents built for a session, by agent",
    "build_seconds": "Time that building them took, by agent (seconds)",
}
LABELS: dict[str, str | tuple[str, ...]] = {
    "turns": "outcome",
    "refused": "code",
    "controls": "kind",
    "decisions": "decision",
    "computes": "outcome",
    "mcp_calls": ("server", "outcome"),
    "mcp_openings": ("server", "outcome"),
    "compactions": "outcome",
    "tokens": ("model", "kind"),
    "money": ("model", "kind", "currency"),
    "unpriced": "model",
    "budget_refusals": "scope",
    "pool_evictions": "reason",
    "builds": "agent",
    "build_seconds": "agent",
}
GAUGES: dict[str, str] = {
    "in_flight": "Turns that run",
    "waiting": "Turns that wait in mailboxes",
    "backlog": "Turns that wait behind their session's full mailbox, as records",
    "backlog_bytes": "Bytes of those, estimated",
    "slots_free": "Free slots",
    "partitions": "Partitions owned",
    "paused": "Partitions paused because what waits of them is over their share",
    "memory_bytes": "Resident memory",
    "memory_short": "1 while no turns are read because memory is short",
    "held": "Sessions held back: their model takes no calls, or another one makes its last try",
    "model_breaker": "Breakers of the models, the worst: 0 closed, 1 half open, 2 open",
    "model_retries_left": "Retries that the budget allows now",
    "model_waiting": "Model calls that wait for a place at their provider",
    "mcp_leases": "Open connections to MCP servers",
    "lag": "Records not read yet, all partitions",
    "pool_sessions": "Warm sessions",
    "pool_bytes": "Bytes of warm sessions, estimated",
}


class Histogram:
    """A histogram that costs next to nothing to feed: `observe` keeps the value, `settle` sorts what is kept."""

    __slots__ = ("_kept", "bounds", "counts", "observe", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self._kept: list[float] = []
        self.observe: Callable[[float], None] = self._kept.append

    def settle(self) -> None:
        """Count what is kept. Whoever feeds it for long calls this now and then."""
        kept, before = self._kept, 0
        kept.sort()
        for place, bound in enumerate(self.bounds):
            upto = bisect_right(kept, bound)
            self.counts[place] += upto - before
            before = upto
        self.counts[-1] += len(kept) - before
        self.total += sum(kept)
        kept.clear()

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        self.settle()
        running, out = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            running += count
            out.append((bound, float(running)))
        return out


class WorkerMetrics(Collector):
    """The numbers, and how they are shown. `gauges`: read when somebody scrapes."""

    def __init__(self, gauges: Callable[[], Mapping[str, float]]) -> None:
        self.counts: dict[str, Counter[str | tuple[str, ...]]] = {name: Counter() for name in COUNTERS}
        self.hops = {hop: Histogram(SECONDS) for hop in HOPS}
        self.bulk = Histogram(SIZES)
        self._gauges = gauges
        self._more: dict[str, Callable[[], float]] = {}

    def count(self, name: str, label: str | tuple[str, ...] = "", by: float = 1) -> None:
        """Add to a counter of `COUNTERS`; `label`: as LABELS says, a tuple where those are several."""
        self.counts[name][label] += by  # type: ignore[assignment]

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Read gauge `name` of `GAUGES` so."""
        self._more[name] = read

    def settle(self) -> None:
        """Count what the histograms keep."""
        for histogram in (*self.hops.values(), self.bulk):
            histogram.settle()

    def collect(self) -> Iterable[Metric]:
        for name, text in COUNTERS.items():
            yield self._counter(name, text)
        values = {**self._gauges(), **{name: read() for name, read in self._more.items()}}
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(f"fleet_worker_{name}", text, value=values.get(name, 0.0))
        hop = HistogramMetricFamily("fleet_worker_hop_seconds", "Time of a turn by hop", labels=["hop"])
        for name, histogram in self.hops.items():
            hop.add_metric([name], histogram.buckets(), histogram.total)
        yield hop
        bulk = HistogramMetricFamily("fleet_worker_bulk_rows", "Journal entries in one insert command")
        bulk.add_metric([], self.bulk.buckets(), self.bulk.total)
        yield bulk

    def _counter(self, name: str, text: str) -> CounterMetricFamily:
        label = LABELS.get(name, ())
        labels = [label] if isinstance(label, str) else [*label]
        family = CounterMetricFamily(f"fleet_worker_{name}", text, labels=labels)
        for value, number in self.counts[name].items() or [("", 0)]:
            if not labels or value:
                family.add_metric(([value] if isinstance(value, str) else [*value]) if labels else [], number)
        return family
