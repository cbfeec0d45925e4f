"""What a turn has used of models so far, of all its attempts. Knows no price and no provider."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.entries import Step
from schemas.frames import Usage


class Tally:
    """`calls`: model calls; `retries`: tries beyond the first of each; `untold`: tries of which nobody told the tokens.
    What steps hold is counted once, whatever a later attempt comes to."""

    __slots__ = ("_usage", "calls", "retries", "untold")

    def __init__(self) -> None:
        self._usage: dict[tuple[str | None, str, bool | None], Usage] = {}
        self.calls = 0
        self.retries = 0
        self.untold = 0

    @classmethod
    def of(cls, steps: Iterable[Step]) -> Tally:
        """What durable steps say."""
        tally = cls()
        for step in steps:
            tally.add(step.usage)
            if step.kind == "model" and step.result is not None:  # None: a budget refused it, nobody was asked
                tally.calls += 1
                tally.untold += untold_of(step)
        return tally

    @property
    def usage(self) -> tuple[Usage, ...]:
        """Tokens by provider and model, those that were estimated apart."""
        return tuple(self._usage.values())

    @property
    def tokens(self) -> int:
        """Of all models together."""
        return sum(usage.input_tokens + usage.output_tokens for usage in self._usage.values())

    def add(self, usage: tuple[Usage, ...]) -> None:
        """Add tokens."""
        for new in usage:
            key = (new.provider, new.model, new.estimated)
            old = self._usage.get(key)
            self._usage[key] = new if old is None else _sum(old, new)


def untold_of(step: Step) -> int:
    """Tries of a model call that is a step of which nobody told the tokens."""
    result = step.result if isinstance(step.result, dict) else {}
    tries = result.get("untold", 0)
    return tries if isinstance(tries, int) else 0


def _sum(old: Usage, new: Usage) -> Usage:
    return Usage(
        provider=old.provider,
        model=old.model,
        input_tokens=old.input_tokens + new.input_tokens,
        output_tokens=old.output_tokens + new.output_tokens,
        cached_input_tokens=_plus(old.cached_input_tokens, new.cached_input_tokens),
        reasoning_tokens=_plus(old.reasoning_tokens, new.reasoning_tokens),
        estimated=old.estimated,
    )


def _plus(old: int | None, new: int | None) -> int | None:
    return None if old is None and new is None else (old or 0) + (new or 0)
