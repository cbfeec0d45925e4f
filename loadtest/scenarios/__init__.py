"""The measured figures, one file per question. `ALL` names them for the command line, in the order of a full run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from loadtest.bench import Bench
from loadtest.result import Outcome
from loadtest.scenarios import (
    against,
    cancel,
    fair,
    first_token,
    history,
    idle,
    in_flight,
    long_session,
    mcp,
    poison,
    rolling,
    sockets,
    streaming,
    takeover,
    throughput,
)

Scenario = Callable[[Bench], Awaitable[Outcome]]

BRINGS_ITS_OWN_STACK = frozenset({"first-token", "mcp"})
"""These start broker and database themselves, by `fleet up`, or need none."""

BY_NAME_ONLY = frozenset({"take-over", "poison", "deadly", "against"})
"""Not in the short set: they take minutes, or want to be told something."""

ALL: Mapping[str, Scenario] = {
    "throughput": throughput.measure,
    "idle": idle.measure,
    "sockets": sockets.measure,
    "in-flight": in_flight.measure,
    "fair": fair.measure,
    "streaming": streaming.measure,
    "long-session": long_session.measure,
    "history": history.measure,
    "mcp": mcp.measure,
    "cancel": cancel.measure,
    "take-over": takeover.measure,
    "poison": poison.measure,
    "deadly": poison.measure_deadly,
    "rolling-restart": rolling.measure,
    "against": against.measure,
    "first-token": first_token.measure,
}
