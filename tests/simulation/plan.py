"""What is asked of the fleet in one run: turns, copies, cancels, deletes, by moment, drawn from the seed alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.agents import KILLS, RAISES, asks

TENANT = "default"


@dataclass(frozen=True, slots=True)
class Sent:
    """One record: at `at_s`, a turn or a control op of `session`; `reply_to` as its header."""

    at_s: float
    stream: str
    session: str
    body: dict[str, Any]
    reply_to: str | None = None


@dataclass(slots=True)
class Plan:
    """All that will be sent, by moment. `span_s`: the load lies within it."""

    span_s: float
    sessions: dict[str, str] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    turns: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    cancels: dict[str, tuple[str, str]] = field(default_factory=dict)
    steers: dict[str, tuple[str, str]] = field(default_factory=dict)
    decisions: dict[str, tuple[str, str]] = field(default_factory=dict)


def plan_of(seed: int, turns: int) -> Plan:
    """The load of a seed."""
    chances = random.Random(f"plan {seed}")
    plan = Plan(span_s=6.0 + turns * 0.09)
    names = [f"s{number}" for number in range(min(chances.randint(10, 20), max(3, turns // 6)))]
    plan.sessions = {name: chances.choice(("echo", "steps", "steps", "chat")) for name in names}
    others = random.Random(f"pays {seed}")  # of its own: the load of a seed stays what it was
    for name, agent in plan.sessions.items():
        if agent != "steps" and others.random() < 0.4:
            plan.sessions[name] = "pays"
    more = random.Random(f"asks {seed}")
    for name, agent in plan.sessions.items():
        if more.random() < 0.3:
            plan.sessions[name] = "guards" if agent == "steps" else "asks"
    yields = random.Random(f"yields {seed}")
    for name, agent in plan.sessions.items():
        if agent == "asks" and yields.random() < 0.5:
            plan.sessions[name] = "yields"
    forks = random.Random(f"forks {seed}")
    for name, agent in plan.sessions.items():
        if agent == "echo" and forks.random() < 0.5:
            plan.sessions[name] = "forks"
    for number in range(turns):
        _turn(plan, chances, f"t{number}", chances.choice(names))
    for number in range(chances.choice((0, 1, 2, 3)) if turns >= 40 else 1):
        session, at_s = chances.choice(names), chances.uniform(0.2, 1.0) * plan.span_s
        copies(plan, chances, at_s, "agent.control", session, {"op": f"d{number}", "kind": "delete", "user": session})
    for number in range(2):
        session, at_s = chances.choice(names), chances.uniform(0.0, 1.0) * plan.span_s
        body = {"op": f"w{number}", "kind": "watch", "user": session}
        plan.sent.append(Sent(at_s, "agent.control", session, body, f"{number}:other"))
    plan.sent.sort(key=lambda sent: sent.at_s)
    return plan


def _turn(plan: Plan, chances: random.Random, turn: str, session: str) -> None:
    at_s = chances.uniform(0.0, plan.span_s)
    agent = plan.sessions[session]
    body: dict[str, Any] = {"turn": turn, "user": session, "agent": agent, "text": _text(chances, turn, agent)}
    if chances.random() < 0.2:
        body["if_busy"] = chances.choice(("reject", "interrupt", "rollback", "enqueue", *["steer"] * 6))
    plan.turns[session, turn] = body
    reply_to = f"{chances.randrange(2)}:gateway" if chances.random() < 0.3 else None
    copies(plan, chances, at_s, "agent.turns", session, body, reply_to)
    if chances.random() < 0.12:
        late_s = max(0.0, at_s + chances.choice((-2.0, 0.005, 0.02, 0.05, 0.3, 1.0, 8.0)) * chances.random())
        cancel = {"op": f"c-{turn}", "kind": "cancel", "turn": turn, "user": session}
        plan.cancels[f"c-{turn}"] = (session, turn)
        copies(plan, chances, late_s, "agent.control", session, cancel)
    if agent in {"asks", "yields"} and asks(turn):
        _decide(plan, random.Random(f"decides {at_s} {turn}"), at_s, turn, session)
    if chances.random() < 0.06:
        late_s = at_s + chances.choice((0.02, 0.1, 0.5, 2.0)) * chances.random()
        text = f"more {turn} {chances.randint(1, 2)}"
        steer = {"op": f"s-{turn}", "kind": "steer", "turn": turn, "user": session, "text": text}
        plan.steers[f"s-{turn}"] = (session, turn)
        copies(plan, chances, late_s, "agent.control", session, steer)


def _decide(plan: Plan, chances: random.Random, at_s: float, turn: str, session: str) -> None:
    """What the user says to a question, if anything, sometimes too early, sometimes twice."""
    if chances.random() < 0.4:
        return
    late_s = at_s + chances.choice((0.3, 1.0, 4.0)) * chances.random()
    decision = chances.choice(("allow", "allow", "deny"))
    said = {"kind": "approve", "turn": turn, "user": session, "call": f"{turn}.1", "decision": decision}
    for number in range(chances.choice((1, 1, 2))):
        plan.decisions[f"a{number}-{turn}"] = (session, turn)
        op = {"op": f"a{number}-{turn}", **said}
        copies(plan, chances, late_s + 3 * number, "agent.control", session, op)


def _text(chances: random.Random, turn: str, agent: str) -> str:
    if agent not in {"steps", "guards"}:
        return f"say {turn}"
    drawn = chances.random()
    if drawn < (0.01 if agent == "steps" else 0.06):
        return KILLS
    return RAISES if drawn < 0.03 else f"{turn} {chances.randint(1, 4)}"


def copies(
    plan: Plan,
    chances: random.Random,
    at_s: float,
    stream: str,
    session: str,
    body: dict[str, Any],
    reply_to: str | None = None,
) -> None:
    """The record, and in a third of the cases up to four copies, from at once to long after."""
    plan.sent.append(Sent(at_s, stream, session, body, reply_to))
    for _ in range(chances.randint(1, 4) if chances.random() < 0.33 else 0):
        later_s = at_s + chances.choice((0.0, 0.1, 1.0, 10.0, 20.0)) * chances.random()
        plan.sent.append(Sent(later_s, stream, session, body, reply_to))
