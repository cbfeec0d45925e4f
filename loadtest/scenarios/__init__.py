"""The measured figures, one file per question. `ALL` names them for the command line, in the order of a full run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from loadtest.bench import Bench
from loadtest.result import Outcome
from loadtest.scenarios import (
    cancel,
    fair,
    first_token,
    history,
    idle,
    in_flight,
    long_session,
    rolling,
    sockets,
    streaming,
    takeover,
    throughput,
)

Scenario = Callable[[Bench], Awaitable[Outcome]]

BRINGS_ITS_OWN_STACK = frozenset({"first-token"})
"""These start broker and database themselves, by `fleet up`."""

ALL: Mapping[str, Scenario] = {
    "throughput": throughput.measure,
    "idle": idle.measure,
    "sockets": sockets.measure,
    "in-flight": in_flight.measure,
    "fair": fair.measure,
    "streaming": streaming.measure,
    "long-session": long_session.measure,
    "history": history.measure,
    "cancel": cancel.measure,
    "take-over": takeover.measure,
    "rolling-restart": rolling.measure,
    "first-token": first_token.measure,
}
