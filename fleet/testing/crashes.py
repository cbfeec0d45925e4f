"""One turn, killed wherever an entry becomes durable, and whether it ends the same every time. Knows no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fleet.testing.attempt import Crash, Plan, When
from fleet.testing.conversation import Conversation, Verdict
from fleet.testing.outcome import Outcome, calls_of, place
from schemas.codes import Code
from schemas.entries import Entry, Finish, Intent, Step, Suspend
from schemas.history import HistoryItem
from schemas.turn import TurnInput

_CHANGED = "its code changed under the turn"


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """Where the worker died, and what became of the turn. `unknown`: the tools that were in the middle of a call then,
    and may not be called again: the agent got `outcome_unknown`, so that the turn may end in another way."""

    when: When
    entry: str
    name: str
    outcome: Outcome
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.when} {self.entry.upper()} {self.name}".rstrip()


async def everywhere(
    talk: Conversation, given: TurnInput, plan: Plan, decisions: Sequence[Verdict]
) -> tuple[Outcome, tuple[CrashPoint, ...]]:
    """The turn as planned, by which `talk` goes on, then by a twin of the session once for every point. Raises
    AssertionError with a sentence for the first one that ends differently."""
    twin = talk.copy()
    undisturbed = await driven(talk, given, plan, decisions)
    history, calls = tuple(talk.state.history), calls_of(undisturbed.entries)
    points = []
    for crash, entry in _points(undisturbed.entries):
        other = twin.copy()
        seen = await driven(other, given, replace(plan, crash=crash), decisions)
        name = place(entry, calls) if isinstance(entry, Step | Intent | Suspend) else ""
        point = CrashPoint(crash.when, entry.k, name, seen, _unknown(seen, undisturbed))
        _check_rerun(point)
        _check_end(point, undisturbed)
        if not point.unknown:
            _check_history(point, history, tuple(other.state.history))
        await other.close()
        points.append(point)
    return undisturbed, tuple(points)


async def driven(talk: Conversation, given: TurnInput, plan: Plan, decisions: Sequence[Verdict]) -> Outcome:
    """A turn to its end, decided in this order wherever it asks."""
    outcome, left = await talk.begin(given, plan), list(decisions)
    while outcome.asks is not None:
        if not left:
            asked = outcome.asks.name or outcome.asks.message
            raise AssertionError(
                f"the turn awaits decision {len(decisions) + 1}, on {asked!r}; say it with decisions=[allows(), …]"
            )
        outcome = await talk.decide(left.pop(0), plan)
    return outcome


def _points(entries: Sequence[Entry]) -> list[tuple[Crash, Entry]]:
    written = [entry for entry in entries if isinstance(entry, Step | Intent | Suspend | Finish)]
    both: tuple[When, ...] = ("before", "after")
    return [
        (Crash(number, when), entry)
        for number, entry in enumerate(written)
        for when in both
        if when == "before" or not isinstance(entry, Finish)
    ]


def _unknown(seen: Outcome, undisturbed: Outcome) -> tuple[str, ...]:
    was = {use.call for use in undisturbed.tools if use.error is Code.OUTCOME_UNKNOWN}
    return tuple(use.name for use in seen.tools if use.error is Code.OUTCOME_UNKNOWN and use.call not in was)


def _check_rerun(point: CrashPoint) -> None:
    """What was durable was not done again."""
    done: dict[tuple[str, int], Step] = {}
    for entry in point.outcome.entries:
        if isinstance(entry, Step):
            number = (entry.run, entry.step)
            if number in done:
                raise AssertionError(f"crash {point}: step {place(entry, frozenset())!r} was done and is done again")
            done[number] = entry
    calls = {step.call: step for step in done.values() if step.kind == "tool"}
    for frame in point.outcome.frames:
        step = calls.get(frame["call"]) if frame["type"] == "tool_call" else None
        if step is not None and step.attempt < frame["attempt"]:
            raise AssertionError(f"crash {point}: tool {step.name!r} had answered and was called again")


def _check_end(point: CrashPoint, undisturbed: Outcome) -> None:
    seen = point.outcome
    if _CHANGED in seen.message and _CHANGED not in undisturbed.message:
        raise AssertionError(
            f"crash {point}: the agent did something else when it ran again ({seen.message}). What it decides by must "
            "come from its turn, the history, what is kept and its steps; put all else (time, chance, files) in a step"
        )
    if point.unknown:
        return
    for what in ("outcome", "code", "text", "data", "kept"):
        now, then = getattr(seen, what), getattr(undisturbed, what)
        if now != then:
            text = f"crash {point}: {what} is {now!r}, undisturbed it is {then!r} {seen.message}"
            raise AssertionError(text.rstrip())


def _check_history(point: CrashPoint, then: Sequence[HistoryItem], now: Sequence[HistoryItem]) -> None:
    for number in range(max(len(then), len(now))):
        one, other = _said(then, number), _said(now, number)
        if one != other:
            raise AssertionError(f"crash {point}: message {number} of the history is {other}, undisturbed it is {one}")


def _said(items: Sequence[HistoryItem], number: int) -> object:
    """A message without its moment."""
    return items[number].model_dump(exclude={"at_ms"}, exclude_defaults=True) if number < len(items) else "missing"
