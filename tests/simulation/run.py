"""Runs one seed: load and faults, then calm, then the checks. The outcome is a value; nothing is printed."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import secrets
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from broker.memory import MemoryScan
from fleet.chaos.finding import Verdict
from fleet.chaos.gather import Sources, inspect
from journal import memory_payloads
from journal.fold import FoldError
from journal.loader import load
from journal.state import State
from tests.simulation import checks, redrives
from tests.simulation.faults import Faults
from tests.simulation.plan import TENANT, plan_of
from tests.simulation.strangers import crowded, key_of, named
from tests.simulation.virtual import EMPTY, VirtualLoop
from tests.simulation.world import EPOCH_MS, SETTLE_S, World

WORKERS = 2
FAULTS_A_TURN = 0.1
LEAST_COMPLETED = 0.5  # of what was neither refused nor cancelled; a block of seeds has to come to half of all
TRACE = 60
LARGE = 400  # characters of a body that is kept beside its row: every other FINISH


@dataclass(slots=True)
class Outcome:
    """Of one seed. `broken`: promises, as sentences; `trace`: the events that have to do with them."""

    seed: int
    turns: int
    completed: int
    events: int
    virtual_s: float
    digest: str
    faults: Counter[str]
    broken: list[str]
    trace: list[str]


def run(seed: int, turns: int) -> Outcome:
    """One seed, from nothing to the verdict."""
    loop = VirtualLoop()
    with sealed(seed, loop):
        outcome: Outcome = loop.run(_run(seed, turns, loop))
    return outcome


def histories(seed: int, turns: int) -> Verdict:
    """One seed, and what the history checker of `fleet chaos check` says of it from topics and store."""
    loop = VirtualLoop()

    async def judged() -> Verdict:
        world = await _lived(seed, turns, loop, new_topics=False)  # its evidence is what is in the topics
        return await inspect(Sources(MemoryScan(world.cluster), world.store.survey), settled=True, parts=1)

    with sealed(seed, loop):
        verdict: Verdict = loop.run(judged())
    return verdict


async def _lived(seed: int, turns: int, loop: VirtualLoop, *, new_topics: bool = True) -> World:
    """Load and faults, then calm."""
    plan = crowded(plan_of(seed, turns), seed)
    world = World(seed, plan, loop)
    world.group.check = checks.passed(world.ledger, world.cluster)
    for _ in range(WORKERS):
        world.join()
    world.lobby.open()
    world.operators.schedule()
    for sent in plan.sent:
        loop.call_later(sent.at_s, world.send, sent, context=EMPTY)
    faults = Faults(seed, world)
    faults.schedule(max(3, int(turns * FAULTS_A_TURN)))
    if new_topics:
        faults.schedule_new_topics()
    await asyncio.sleep(plan.sent[-1].at_s + 1.0)
    await settle(world)
    return world


async def _run(seed: int, turns: int, loop: VirtualLoop) -> Outcome:
    world = await _lived(seed, turns, loop)
    plan = world.plan
    await world.store.payloads.sweep(2**62, 1_000_000)
    bodies = list(world.journal.payloads.bodies)
    states = await states_of(world)
    broken = [*world.ledger.broken, *checks.broken(plan, world.ledger, states), *world.lobby.broken()]
    broken += checks.payloads(world.ledger, bodies)
    broken += redrives.broken(world.operators, world.cluster, world.ledger, list(plan.sessions))
    broken += redrives.minted(world.ledger, _sent(world), world.operators.marks)
    completed = checks.ended(world.ledger, "completed")
    lives = world.ledger.lives
    taken = sum(
        lives.accepted(*turn) is not None for turn in lives.records
    )  # the rest was refused, and judged for that
    cancelled = checks.ended(world.ledger, "cancelled")
    if completed < LEAST_COMPLETED * (taken - cancelled):
        broken.append(f"only {completed} of {taken} turns were completed, {cancelled} cancelled: that proves nothing")
    world.weather.counts["stranger answered"] = world.ledger.lives.kept_out
    return Outcome(
        seed, turns, completed, world.ledger.events, loop.time(), world.ledger.digest,
        world.weather.counts, broken, _about(broken, world) if broken else [],
    )  # fmt: skip


def _sent(world: World) -> set[tuple[str, str]]:
    """Turns that somebody sent, as the log names them."""
    plan, lobby = world.plan, world.lobby
    sent = {(named(one.body.get("tenant", TENANT), one.session), one.body.get("turn", "")) for one in plan.sent}
    return sent | {(visitor.name, turn) for visitor in lobby.visitors for turn in visitor.asked}


async def settle(world: World) -> None:
    """All is well from now on: everything that was sent has to be committed within some virtual minutes."""
    world.weather.clear_up()
    world.recover()
    world.operators.finish()
    world.ledger.note("calm")
    if not world.fit():
        world.join()
    end_s = world.loop.time() + SETTLE_S
    while not world.quiet():
        if world.loop.time() > end_s:
            world.ledger.fail(f"not settled within {SETTLE_S:g} s of calm: committed {world.group.committed}")
            return
        await asyncio.sleep(0.25)
    await asyncio.sleep(1.0)


async def states_of(world: World) -> dict[str, State]:
    """Every session as the product loads it: by its snapshot, if there is one."""
    states = {}
    for session in world.plan.sessions:
        try:
            states[session] = (await load(world.store, key_of(session))).state
        except (FoldError, ValueError) as error:
            world.ledger.broken.append(f"{session} cannot be loaded: {error}")
            states[session] = State()
    return states


def _about(broken: list[str], world: World) -> list[str]:
    """The trace of the sessions and turns that the first sentence names, and all faults."""
    names = set(re.split(r"[^\w-]+", broken[0]))
    names |= {session for session, turn in world.plan.turns if turn in names}
    sessions = {name for name in names if name in world.plan.sessions}
    lines = []
    for at_s, what in world.ledger.trace:
        words = what.split()
        if sessions.intersection(words) or words[0][:1] in {"w", "g", "o"} or words[0] in {"fault:", "calm", "BROKEN"}:
            lines.append(f"{at_s:9.3f} {what}")
    return lines[-TRACE:]


@contextmanager
def sealed(seed: int, loop: VirtualLoop) -> Iterator[None]:
    """No clock of the machine and no chance but the seed's."""
    chances = random.Random(f"sealed {seed}")

    def now_ns() -> int:
        return int(loop.time() * 1e9)

    logging.disable(logging.CRITICAL)
    with (
        patch.object(time, "perf_counter_ns", now_ns),
        patch.object(time, "perf_counter", loop.time),
        patch.object(time, "monotonic", loop.time),
        patch.object(time, "time_ns", lambda: EPOCH_MS * 1_000_000 + now_ns()),
        patch.object(time, "time", lambda: EPOCH_MS / 1_000 + loop.time()),
        patch.object(secrets, "token_hex", lambda n=32: chances.randbytes(n).hex()),
        patch.object(os, "urandom", chances.randbytes),
        patch.object(random, "random", chances.random),
        patch.object(memory_payloads, "PAYLOAD_CHARS", LARGE),
        patch.object(uuid, "uuid4", lambda: uuid.UUID(bytes=chances.randbytes(16))),
    ):
        yield
    logging.disable(logging.NOTSET)
