"""Cancels under load: streams that are cancelled after a random time, turns that are cancelled while they wait behind
one. When is the turn settled, when is the provider's socket closed, does a waiting turn ever reach the model."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import httpx
import orjson

from loadtest.answers import TERMINAL, Request
from loadtest.bench import Bench, Product
from loadtest.figures import Latency
from loadtest.generator import Run, run_open
from loadtest.result import Figure, Outcome
from loadtest.scenarios.parts import Beside, faults, ladder, low
from loadtest.schedule import arrivals, sessions
from loadtest.waiting import until
from loadtest.workload import Prompt

CANCELS, CANCEL_RATE = 1_000, 25.0
QUEUED_EVERY = 3
SOONEST_S, LATEST_S = 0.05, 2.0
STREAM = orjson.dumps({"tokens": 2_000, "rate": 100.0, "first_ms": 50}).decode()
RATE, SESSIONS, TOKENS, TOKENS_S = 25.0, 300, 40, 100.0
SETTLED_MS, CLOSED_MS = 1_000.0, 200.0
GRACE_S = 20.0


class Event(NamedTuple):
    """Something to publish, `due_s` after the start."""

    due_s: float
    session: str
    turn: str
    cancel: bool


@dataclass(frozen=True, slots=True)
class Cancelled:
    """One repetition; latencies count from the moment at which a cancel should have been sent. `settled`, `closed`: of
    streams, `queued`: of turns that waited; `reached`: waiting turns that came to the model; `outcomes`: of all
    that were cancelled, None where there was none; `twice`: with a second, other terminal frame."""

    load: Run
    settled: Latency
    closed: Latency
    queued: Latency
    reached: int
    outcomes: Mapping[str, int]
    twice: int


async def measure(bench: Bench) -> Outcome:
    """All repetitions on the same worker and model."""
    async with bench.model() as (model_url, _):
        settings = {"model_url": model_url, "model": "scripted", "model_key": "none", "agent": "chat"}
        async with bench.product(settings) as product:
            runs = [await _run(bench, product, model_url, f"r{n}") for n in range(bench.plan.repetitions)]
    return Outcome(
        "cancel",
        "Cancels under load",
        f"{CANCEL_RATE:g} streams/s, each cancelled {SOONEST_S:g} to {LATEST_S:g} s after it was sent, every "
        f"{QUEUED_EVERY}rd with a turn behind it that is cancelled before; {RATE:g} other turns/s; one worker",
        figures=[
            *ladder("cancel of a stream: settled", [run.settled for run in runs], SETTLED_MS),
            *ladder("cancel of a stream: provider's socket closed", [run.closed for run in runs], CLOSED_MS),
            *ladder("cancel of a waiting turn: settled", [run.queued for run in runs], SETTLED_MS),
            low("waiting turns that reached the model", "", [run.reached for run in runs], 0),
            *_counts(runs),
            low("others' p99", "ms", [run.load.from_intended.p99_ms for run in runs]),
        ],
        runs=[asdict(run) for run in runs],
        faults=[line for run in runs for line in _faults(run)],
    )


class _Victims:
    """Turns that are cancelled, and what is heard of them."""

    def __init__(self) -> None:
        self.cancel_s: dict[str, float] = {}
        self.ends: dict[str, tuple[float, str]] = {}
        self.twice = 0

    def heard(self, frame: Mapping[str, Any], at_s: float) -> None:
        turn, kind = frame.get("turn"), frame["type"]
        if kind not in TERMINAL or turn not in self.cancel_s:
            return
        if turn in self.ends:
            self.twice += self.ends[turn][1] != kind
        else:
            self.ends[turn] = (at_s, kind)

    def took_s(self, *, queued: bool) -> list[float]:
        return [
            at_s - self.cancel_s[turn]
            for turn, (at_s, kind) in self.ends.items()
            if kind == "cancelled" and turn.endswith("q") == queued
        ]


async def _run(bench: Bench, product: Product, model_url: str, name: str) -> Cancelled:
    seed, count = bench.plan.seed, int(CANCELS * bench.plan.scale)
    events = sorted(itertools.islice(_events(name, seed), 2 * count + 2 * (count // QUEUED_EVERY)))
    victims, lane = _Victims(), product.lane
    keys = sessions(SESSIONS, kind="uniform", seed=seed)
    load = Prompt(name, keys, tokens=TOKENS, rate=TOKENS_S, first_ms=50.0)
    times = arrivals(RATE, kind="poisson", seed=seed + 1)
    run = run_open(Beside(lane, victims.heard), load, times, seconds=events[-1].due_s + 1.0)
    loading = asyncio.create_task(run, name="load")
    await asyncio.sleep(0)
    start_s, wall_s = time.monotonic(), time.time() - time.monotonic()
    for event in events:
        await asyncio.sleep(max(0.0, start_s + event.due_s - time.monotonic()))
        if event.cancel:
            victims.cancel_s[event.turn] = start_s + event.due_s
            lane.command(event.session, {"op": f"{event.turn}.op", "kind": "cancel", "turn": event.turn})
        else:
            lane.submit(Request(event.session, event.turn, STREAM, "", 0, 0.0), "chat")
    await until(lambda: len(victims.ends) == len(victims.cancel_s), timeout_s=GRACE_S)
    done = await loading
    stats, asked = await _ledger(model_url)
    closed = {one["turn"]: one["at_ms"] / 1000 - wall_s for one in stats["closed_early"]}
    outcomes: dict[str, int] = {}
    for turn in victims.cancel_s:
        kind = victims.ends[turn][1] if turn in victims.ends else "none"
        outcomes[kind] = outcomes.get(kind, 0) + 1
    return Cancelled(
        done,
        Latency.of(victims.took_s(queued=False)),
        Latency.of([at_s - victims.cancel_s[turn] for turn, at_s in closed.items() if turn in victims.cancel_s]),
        Latency.of(victims.took_s(queued=True)),
        sum(turn.endswith("q") for turn in asked if turn in victims.cancel_s),
        outcomes,
        victims.twice,
    )


def _events(name: str, seed: int) -> Iterator[Event]:
    """Endless: a stream and its cancel; at every third one a turn behind it, cancelled while the stream runs."""
    rng = random.Random(seed)
    for number, sent_s in enumerate(arrivals(CANCEL_RATE, kind="poisson", seed=seed), 1):
        session, turn, lasts_s = f"{name}-v{number}", f"{name}.v{number}", rng.uniform(SOONEST_S, LATEST_S)
        yield Event(sent_s, session, turn, cancel=False)
        yield Event(sent_s + lasts_s, session, turn, cancel=True)
        if number % QUEUED_EVERY == 0:
            yield Event(sent_s + 0.001, session, f"{turn}q", cancel=False)
            yield Event(sent_s + rng.uniform(0.2, 0.9) * lasts_s, session, f"{turn}q", cancel=True)


async def _ledger(model_url: str) -> tuple[dict[str, Any], dict[str, int]]:
    """What the model saw: its counters, and how often each turn asked."""
    base = model_url.removesuffix("/v1")
    async with httpx.AsyncClient(trust_env=False, timeout=5.0) as client:
        return (await client.get(f"{base}/stats")).json(), (await client.get(f"{base}/turns")).json()


def _counts(runs: list[Cancelled]) -> list[Figure]:
    return [
        low("streams that were cancelled", "", [run.settled.count for run in runs]),
        low("of them, sockets seen to close", "", [run.closed.count for run in runs]),
        low("waiting turns that were cancelled", "", [run.queued.count for run in runs]),
    ]


def _faults(run: Cancelled) -> list[str]:
    other = {kind: count for kind, count in run.outcomes.items() if kind != "cancelled"}
    found = faults("others", run.load)
    found += [f"{count} turns that were cancelled ended with: {kind}" for kind, count in other.items()]
    return found + ([f"{run.twice} turns ended in two ways"] if run.twice else [])
