"""What a call of an MCP tool costs beside the SDK's own, and what a worker holds after many turns and connections.

The measured code is the workers', which this layer does not know: `tests/support/mcp_measure.py` runs it in a process.
"""

from __future__ import annotations

import json
from typing import Any

from loadtest.bench import Bench
from loadtest.figures import Spread
from loadtest.processes import PartFailed
from loadtest.result import Figure, Outcome

TURNS, LEASES = 2_000, 50
WARM_CALLS = 200
_WAIT_S = 600.0
_FLAT_MIB = 8.0


async def measure(bench: Bench) -> Outcome:
    """Each repetition in a process of its own."""
    times, plan = range(bench.plan.repetitions), bench.plan
    cold = [await _measured(bench, "cold") for _ in times]
    warm = [await _measured(bench, "warm", "5", str(max(10, int(WARM_CALLS * plan.scale)))) for _ in times]
    turns = max(10 * LEASES, int(TURNS * plan.scale))
    soak = await _measured(bench, "soak", str(turns), str(LEASES))
    first, last = soak["first"], soak["last"]
    grown = {name: last[name] - first[name] for name in first}
    faults = [f"{name}: {first[name]} became {last[name]}" for name in ("fds", "children", "tasks") if grown[name] > 2]
    return Outcome(
        "mcp",
        "Tools of MCP servers",
        f"a warm call beside the SDK's own in the same process; three servers opened; {turns:,} turns with {LEASES} "
        f"connections, 20 of which die",
        figures=(
            Figure("warm call over stdio / the SDK's", "×", _spread(warm, "ratio_stdio"), "low", target=1.3),
            Figure("warm call over HTTP / the SDK's", "×", _spread(warm, "ratio_http"), "low", target=1.3),
            Figure("warm call over stdio", "ms", _spread(warm, "ours_stdio", 1_000), "low"),
            Figure("warm call over HTTP", "ms", _spread(warm, "ours_http", 1_000), "low"),
            Figure("three servers, opened and listed", "s", _spread(cold, "cold_s"), "low", target=2.0),
            Figure("memory grown in the soak", "MiB", Spread.of([grown["rss_mib"]]), "low", target=_FLAT_MIB),
        ),
        runs=[*cold, *warm, soak],
        faults=faults,
    )


def _spread(runs: list[dict[str, Any]], name: str, times: float = 1.0) -> Spread:
    return Spread.of([run[name] * times for run in runs])


async def _measured(bench: Bench, *what: str) -> dict[str, Any]:
    child = bench.stack.start(f"mcp-{what[0]}", "tests.support.mcp_measure", *what)
    code = await child.wait(_WAIT_S)
    said = child.log.read_text("utf-8", "replace").splitlines()
    found = next((line for line in reversed(said) if line.startswith("{")), None)
    await bench.stack.end(child)
    if code or found is None:
        raise PartFailed(f"mcp {what[0]} ended with {code}: {said[-1][:300] if said else ''}")
    measured: dict[str, Any] = json.loads(found)
    return measured
