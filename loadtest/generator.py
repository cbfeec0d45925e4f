"""Sends a workload and waits for the answers: open loop (arrivals do not wait for answers) or closed (a fixed number
outstanding). Knows neither Kafka nor sockets: a lane carries turns and brings frames."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from loadtest.answers import Ledger, Request, Verdict
from loadtest.figures import Latency
from loadtest.waiting import until
from loadtest.workload import Workload

Heard = Callable[[Mapping[str, Any], float], None]


class Lane(Protocol):
    """A way in and out. Frames are given to the `heard` of the latest `listen`, with the moment on `time.monotonic`."""

    def listen(self, heard: Heard) -> None: ...
    def submit(self, request: Request, agent: str) -> None:
        """Hand over; returns at once. The order of a session's turns is the order of the calls."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run gave. `turns` ended in the measured `seconds`; the latencies are those of all turns."""

    seconds: float
    turns: int
    offered_rate: float
    achieved_rate: float
    from_intended: Latency
    from_sent: Latency
    to_first: Latency
    verdict: Verdict


async def run_open(
    lane: Lane,
    workload: Workload,
    times: Iterator[float],
    *,
    seconds: float,
    ramp_s: float = 0.0,
    grace_s: float = 30.0,
) -> Run:
    """Send each turn at its intended start (`times`, seconds from the start) for `seconds` or as long as there are any,
    however many are outstanding; then wait until no answer came for `grace_s`. Latency counts from the intended start,
    rates are those of the time from `ramp_s` to `seconds`."""
    ledger = Ledger()
    lane.listen(ledger.frame)
    start_s, offered, due_s = time.monotonic(), 0, 0.0
    for number, due_s in enumerate(times):
        if due_s >= seconds:
            break
        now_s = time.monotonic()
        if start_s + due_s > now_s:
            await asyncio.sleep(start_s + due_s - now_s)
        elif not number % 64:
            await asyncio.sleep(0)
        _send(lane, workload, ledger, start_s + due_s)
        offered += due_s >= ramp_s
    else:
        seconds = due_s
    await _drain(ledger, grace_s)
    return _result(ledger, from_s=start_s + ramp_s, to_s=start_s + seconds, offered=offered)


async def run_closed(
    lane: Lane, workload: Workload, *, outstanding: int, seconds: float, ramp_s: float = 0.0, grace_s: float = 30.0
) -> Run:
    """Keep `outstanding` turns outstanding for `seconds`; rates are those of the time from `ramp_s` to `seconds`."""
    going = True

    def ended(_: Request) -> None:
        if going:
            _send(lane, workload, ledger, time.monotonic())

    ledger = Ledger(ended)
    lane.listen(ledger.frame)
    start_s = time.monotonic()
    for _ in range(outstanding):
        _send(lane, workload, ledger, time.monotonic())
    await asyncio.sleep(seconds)
    going, to_s = False, time.monotonic()
    await _drain(ledger, grace_s)
    return _result(ledger, from_s=start_s + ramp_s, to_s=to_s)


async def run_count(lane: Lane, workload: Workload, *, outstanding: int, turns: int, grace_s: float = 60.0) -> Run:
    """Exactly `turns` turns, `outstanding` at a time; gives up when no answer came for `grace_s`."""
    left = turns

    def more(_: Request | None = None) -> None:
        nonlocal left
        if left > 0:
            left -= 1
            _send(lane, workload, ledger, time.monotonic())

    ledger = Ledger(more)
    lane.listen(ledger.frame)
    start_s = time.monotonic()
    for _ in range(outstanding):
        more()
    await _drain(ledger, grace_s)
    return _result(ledger, from_s=start_s, to_s=time.monotonic())


def _send(lane: Lane, workload: Workload, ledger: Ledger, intended_s: float) -> None:
    request = workload.next(intended_s)
    ledger.send(request, time.monotonic())
    lane.submit(request, workload.agent)


async def _drain(ledger: Ledger, grace_s: float) -> None:
    ended = -1
    while ledger.outstanding and len(ledger.ends) > ended:
        ended = len(ledger.ends)
        await until(lambda: not ledger.outstanding, timeout_s=grace_s, pause_s=0.005)


def _result(ledger: Ledger, *, from_s: float, to_s: float, offered: int | None = None) -> Run:
    seconds, turns = to_s - from_s, ledger.ended_between(from_s, to_s)
    return Run(
        seconds=round(seconds, 3),
        turns=turns,
        offered_rate=round((turns if offered is None else offered) / seconds, 3),
        achieved_rate=round(turns / seconds, 3),
        from_intended=Latency.of(ledger.from_intended),
        from_sent=Latency.of(ledger.from_sent),
        to_first=Latency.of(ledger.to_first),
        verdict=ledger.verdict(),
    )
