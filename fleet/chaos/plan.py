"""What is broken when, decided before the run by a seed. Pure: knows no process, no clock."""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple


class Fault(StrEnum):
    """A way in which things break."""

    KILL = "kill"
    FREEZE = "freeze"
    DRAIN = "drain"
    GATEWAY = "gateway"
    GATEWAY_DRAIN = "gateway-drain"
    BROKER = "broker"
    BROKER_FREEZE = "broker-freeze"
    STEP_DOWN = "step-down"
    PRIMARY = "primary"
    MODEL = "model"
    POISON = "poison"
    CUT = "cut"
    HOLD = "hold"
    SLOW = "slow"
    THROTTLE = "throttle"


MEANINGS: dict[Fault, str] = {
    Fault.KILL: "a worker is killed with -9, and started again after some seconds",
    Fault.FREEZE: "a worker is stopped (SIGSTOP) for less or more than the session timeout, then goes on",
    Fault.DRAIN: "a worker gets SIGTERM, drains, and is started again",
    Fault.GATEWAY: "the gateway is killed with -9, and started again",
    Fault.GATEWAY_DRAIN: "the gateway gets SIGTERM, and is started again",
    Fault.BROKER: "a broker is killed with -9, and started again after some seconds",
    Fault.BROKER_FREEZE: "one of several brokers is stopped (SIGSTOP) for less or more than its cluster waits for it",
    Fault.STEP_DOWN: "the primary of the replica set steps down",
    Fault.PRIMARY: "the primary is killed with -9, and started again after some seconds",
    Fault.MODEL: "the model answers 429 and 503, and cuts streams",
    Fault.POISON: "a turn kills every process that runs it, three times",
    Fault.CUT: (
        "connections of one process to Kafka (to all brokers, or to one), or to MongoDB, are reset, "
        "and new ones refused for some seconds"
    ),
    Fault.HOLD: "the same, half-open: nothing gets through and nothing is closed; it arrives when that is over",
    Fault.SLOW: "the same, each piece of data delayed by 0.2 s",
    Fault.THROTTLE: "the same, 8 KiB a second each way",
}
LASTS_S: dict[Fault, tuple[float, float]] = {
    Fault.KILL: (0.2, 4.0),
    Fault.FREEZE: (0.5, 16.0),
    Fault.DRAIN: (0.0, 1.0),
    Fault.GATEWAY: (0.2, 2.0),
    Fault.GATEWAY_DRAIN: (0.0, 1.0),
    Fault.BROKER: (0.5, 5.0),
    Fault.BROKER_FREEZE: (0.5, 16.0),
    Fault.STEP_DOWN: (0.0, 0.0),
    Fault.PRIMARY: (0.5, 6.0),
    Fault.MODEL: (3.0, 8.0),
    Fault.POISON: (0.0, 0.0),
    Fault.CUT: (0.5, 10.0),
    Fault.HOLD: (0.5, 14.0),
    Fault.SLOW: (2.0, 8.0),
    Fault.THROTTLE: (2.0, 8.0),
}
"""How long the thing stays broken, from its first moment on, before somebody mends it."""
FIRST_S, REST_S = 5.0, 12.0
"""Nothing is broken before the first and after the last of these seconds of a run."""


class Planned(NamedTuple):
    """One fault: `at_s` from the start of the load, lasting `for_s`; `which`: of several workers, any number."""

    at_s: float
    fault: Fault
    for_s: float
    which: int


def plan_of(seed: int, seconds: float, faults: Sequence[Fault], *, every_s: float) -> list[Planned]:
    """Faults in order of time, some `every_s` apart; each kind comes before one comes twice."""
    chances = random.Random(seed)
    planned: list[Planned] = []
    waiting: list[Fault] = []
    at_s = FIRST_S
    while at_s < seconds - REST_S and faults:
        if not waiting:
            waiting = list(faults)
            chances.shuffle(waiting)
        fault = waiting.pop()
        for_s = min(chances.uniform(*LASTS_S[fault]), seconds - REST_S / 2 - at_s)
        planned.append(Planned(round(at_s, 2), fault, round(for_s, 2), chances.randrange(1_000)))
        at_s += every_s * chances.uniform(0.5, 1.5)
    return planned
