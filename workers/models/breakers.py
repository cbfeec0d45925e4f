"""The breakers of a worker, one for each model that it asks for at its endpoint. Knows no turn.

Why a breaker for each model and not for the address: an endpoint routes, and limits of rate are a model's; where the
address itself is dead, the breaker of each model that is asked for opens by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from workers.models.breaker import Breaker, BreakerRules, CallLater, Standing

# A model's name comes from an agent's code: a loop over invented ones must not fill the memory.
_MOST = 1_000


class Breakers:
    """Made when a model is asked for the first time."""

    def __init__(self, rules: BreakerRules, *, clock_s: Callable[[], float], call_later: CallLater) -> None:
        self._watchers: list[Callable[[Breaker], None]] = []
        self._rules = rules
        self._clock_s = clock_s
        self._call_later = call_later
        self._of: dict[str, Breaker] = {}

    def of(self, model: str) -> Breaker:
        """The model's own."""
        breaker = self._of.get(model)
        if breaker is None:
            if len(self._of) >= _MOST:
                self._of = {name: b for name, b in self._of.items() if b.standing is not Standing.CLOSED}
            breaker = self._of[model] = Breaker(
                model, self._rules, clock_s=self._clock_s, call_later=self._call_later, changed=self._told
            )
        return breaker

    def __len__(self) -> int:
        return len(self._of)

    def watch(self, changed: Callable[[Breaker], None]) -> None:
        """Have `changed` told when one lets calls in that it did not before, or the other way."""
        self._watchers.append(changed)

    @property
    def worst(self) -> Standing:
        """Of all of them."""
        return max((breaker.standing for breaker in self._of.values()), default=Standing.CLOSED)

    def let_in(self, models: Iterable[str]) -> bool:
        """Whether a turn that will ask these models, in this order, may begin: one of them takes calls."""
        return any(model not in self._of or self._of[model].lets_in() for model in models)

    def _told(self, breaker: Breaker) -> None:
        for watcher in self._watchers:
            watcher(breaker)
