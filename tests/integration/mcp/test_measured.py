"""The figures' own runs, small: they run, and what a worker holds stays as it is. No time is judged here."""

from __future__ import annotations

from tests.support.mcp_measure import soak, warm


async def test_many_turns_with_many_connections_leave_nothing_behind() -> None:
    found = await soak(turns=200, leases=8, deaths=4)
    first, last = found["first"], found["last"]
    assert found["turns"] == 200
    assert found["openings"] >= 8 + 2 * 4
    assert first["leases"] == last["leases"] == 8
    for name in ("fds", "children", "tasks"):
        assert last[name] <= first[name] + 1, name
    assert last["rss_mib"] <= first["rss_mib"] + 8


async def test_warm_calls_are_measured_beside_the_sdks_own() -> None:
    found = await warm(rounds=1, calls=5)
    assert min(found.values()) > 0
