"""What was felt of each fault, and of each kind of fault: how long until turns flowed again. Pure.

`recovery_s`: the longest that any turn was waited for that was sent before the fault was over and completed after it
began, counted from the fault where it was sent before. It is never less than a turn takes anyway. `silence_s`: the
longest time about it in which no turn at all was completed. `takeovers_s`: when turns of the worker that was killed or
stopped went on in another one. `alone`: no other fault was felt in this time; otherwise its figures may be another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from fleet.chaos.breaking import Done
from fleet.chaos.score import Score
from loadtest.figures import percentile

TAKEN_S = 30.0
AFTER_S = 5.0
"""A fault is felt for so long after it was mended."""


def measure(faults: Sequence[Done], score: Score) -> None:
    """Note with each fault what was felt of it."""
    for done in faults:
        done.recovery_s = round(score.recovery_s(done.at_s, done.until_s), 2)
        done.silence_s = round(score.silence_s(done.at_s, done.until_s + AFTER_S), 2)
        if done.pid is not None:
            done.takeovers_s = score.taken_over(done.at_s, done.at_s + TAKEN_S, done.pid)
    happened = [done for done in faults if not done.skipped]
    for done in faults:
        done.alone = not any(_touch(done, other) for other in happened if other is not done)


def by_kind(faults: Sequence[Done]) -> dict[str, dict[str, Any]]:
    """For each kind that happened: how often, and median and maximum of what was felt."""
    kinds = sorted({done.fault for done in faults if not done.skipped})
    return {kind: _summary([done for done in faults if done.fault == kind and not done.skipped]) for kind in kinds}


def _summary(faults: Sequence[Done]) -> dict[str, Any]:
    recovery = [done.recovery_s for done in faults]
    takeovers = sorted(at_s for done in faults for at_s in done.takeovers_s)
    found: dict[str, Any] = {
        "count": len(faults),
        "recovery_median_s": round(median(recovery), 2),
        "recovery_max_s": max(recovery),
        "recovery_alone_max_s": max((done.recovery_s for done in faults if done.alone), default=None),
        "silence_max_s": max(done.silence_s for done in faults),
    }
    if takeovers:
        found |= {
            "takeovers": len(takeovers),
            "takeover_median_s": round(median(takeovers), 2),
            "takeover_p99_s": percentile(takeovers, 0.99),
            "takeover_max_s": takeovers[-1],
        }
    return found


def _touch(one: Done, other: Done) -> bool:
    return one.at_s <= _felt_until_s(other) and other.at_s <= _felt_until_s(one)


def _felt_until_s(done: Done) -> float:
    return max(done.until_s + AFTER_S, done.at_s + done.recovery_s)
