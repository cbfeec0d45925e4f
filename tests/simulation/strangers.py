"""Who else sends records: a user whose sessions these are not, another tenant under the same ids, and other content
under ids that are known. Drawn from the seed, beside the load of `plan`; knows no product.
"""

from __future__ import annotations

import random
from typing import Any

from tests.simulation.plan import TENANT, Plan, Sent, copies

STRANGER, RIVAL = "mallory", "rival"
STOLEN, OTHER = "steal", "other"
"""What a stranger's text says, and what other content under a known id says."""
EARS = "1:stranger"
"""Where the stranger has answers sent."""
ACTS, CONFLICTS = 0.12, 0.08  # of each, for each turn of the load
_AFTER_S = (-0.5, 0.0, 0.005, 0.02, 0.1, 0.5, 3.0)


def crowded(plan: Plan, seed: int) -> Plan:
    """The load, and strangers in it."""
    chances = random.Random(f"strangers {seed}")
    asked = [sent for sent in plan.sent if sent.stream == "agent.turns"]
    ops = [sent for sent in plan.sent if sent.stream == "agent.control"]
    for number in range(round(len(plan.turns) * ACTS)):
        near = chances.choice(asked)
        at_s = max(0.0, near.at_s + chances.choice(_AFTER_S) * chances.random())
        _act(plan, chances, number, near, chances.choice(ops), at_s)
    for sent in chances.sample(asked, round(len(plan.turns) * CONFLICTS)):
        later_s = sent.at_s + chances.choice((0.0, 0.005, 0.1, 1.0, 10.0)) * chances.random()
        text = f"{OTHER} {sent.body['text']}"
        plan.sent.append(Sent(later_s, sent.stream, sent.session, {**sent.body, "text": text}, sent.reply_to))
    for sent in chances.sample(asked, 2):
        _rival(plan, chances, sent)
    plan.sent.sort(key=lambda sent: sent.at_s)
    return plan


def _act(plan: Plan, chances: random.Random, number: int, near: Sent, op: Sent, at_s: float) -> None:
    """One thing that the stranger tries, in somebody else's session, beside a turn of its owner."""
    session, turn = near.session, near.body["turn"]
    named = {"op": f"x{number}", "turn": turn, "user": STRANGER}
    kind = chances.choice(("turn", "turn", "known turn", "cancel", "steer", "delete", "watch", "approve", "known op"))
    if "turn" in kind:
        mine = turn if kind == "known turn" else f"x{number}"
        body = {**near.body, "turn": mine, "user": STRANGER, "text": f"{STOLEN} {mine} {chances.randint(1, 3)}"}
        body["if_busy"] = chances.choice(("enqueue", "enqueue", "reject", "interrupt", "rollback", "steer"))
        copies(plan, chances, at_s, "agent.turns", session, body, EARS)
    elif kind == "known op":
        at_s = op.at_s + chances.choice((0.01, 0.1, 1.0, 5.0)) * chances.random()
        other = chances.choice((op.body["kind"], "steer", "watch", "delete", "cancel"))
        body = {"turn": turn, **op.body, "user": STRANGER, "kind": other, **_needs(other)}
        copies(plan, chances, at_s, "agent.control", op.session, body, EARS)
    else:
        copies(plan, chances, at_s, "agent.control", session, {**named, "kind": kind, **_needs(kind)}, EARS)


def _needs(kind: str) -> dict[str, Any]:
    return {"steer": {"text": STOLEN}, "approve": {"call": "c1", "decision": "allow"}}.get(kind, {})


def _rival(plan: Plan, chances: random.Random, sent: Sent) -> None:
    """Another tenant's session of the same name, with a turn of the same id, of a user of the same name."""
    name, turn = f"{RIVAL}/{sent.session}", sent.body["turn"]
    body = {"turn": turn, "tenant": RIVAL, "user": name, "agent": "echo", "text": f"say {RIVAL}"}
    if name not in plan.sessions:
        plan.sessions[name] = "echo"
        plan.turns[name, turn] = body
        copies(plan, chances, sent.at_s, "agent.turns", sent.session, body)
        cancel = {"op": f"rc-{turn}", "kind": "cancel", "turn": turn, "tenant": RIVAL, "user": name}
        plan.cancels[f"rc-{turn}"] = (name, turn)
        later_s = sent.at_s + chances.choice((0.0, 0.05, 3.0)) * chances.random()
        copies(plan, chances, later_s, "agent.control", sent.session, cancel)


def key_of(session: str) -> str:
    """The journal's key of a session as the plan names it."""
    return session if "/" in session else f"{TENANT}/{session}"


def named(tenant: str, session: str) -> str:
    """A session as the plan names it."""
    return session if tenant == TENANT else f"{tenant}/{session}"
