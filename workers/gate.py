"""Holds back turns whose agent would meet models that take no calls, so that they wait instead of failing.

Control ops, agents that use no model, and turns that are out of time anyway go on. Knows no provider and no partition.
"""

from __future__ import annotations

from collections.abc import Callable

from schemas.errors import Refusal
from workers.holdings import Holdings
from workers.metrics import WorkerMetrics
from workers.models.breaker import Breaker, Standing
from workers.models.retry import ModelCaller
from workers.registry import Registry
from workers.slots import Slots


class Gate:
    """Between the breakers of `models` and the slots. What waits behind it waits in mailboxes; those that are full
    pause their partitions, as ever.
    """

    def __init__(
        self,
        models: ModelCaller,
        registry: Registry,
        slots: Slots,
        metrics: WorkerMetrics,
        *,
        clock_ms: Callable[[], int],
    ) -> None:
        self._models = models
        self._registry = registry
        self._slots = slots
        self._metrics = metrics
        self._clock_ms = clock_ms
        models.count = metrics.count
        models.breakers.watch(self._changed)

    def holds(self, session: Holdings) -> bool:
        """Whether the turn that this session would run next waits for a model."""
        state = session.state
        mail = session.mail[0] if session.mail else None
        if state is None:
            return False
        if state.open is not None and session.running is None and state.open.awaits is None:
            agent, deadline_ms = None, state.open.deadline_ms
        elif state.open is None and any(turn.awaits is None for turn in state.aside):
            return False  # it was held up long enough, and its deadline stands still
        elif state.parked:
            agent, deadline_ms = None, state.parked[0].deadline_ms
        elif mail is not None:
            agent, deadline_ms = mail.record.turn.agent, mail.deadline_ms
        else:
            return False
        if deadline_ms <= self._clock_ms():
            return False
        models = self._models_of(state.opened.agent if state.opened is not None else agent)
        return bool(models) and not self._models.breakers.let_in(models)

    def gauges(self) -> dict[str, float]:
        """What the metrics show of it."""
        return {
            "held": self._slots.held,
            "model_breaker": self._models.breakers.worst,
            "model_retries_left": self._models.budget.left,
            "model_waiting": self._models.places.waiting,
        }

    def _models_of(self, agent: str | None) -> tuple[str, ...]:
        try:
            spec = self._registry.get(agent)
        except Refusal:
            return ()
        return (spec.model or self._models.default, *spec.fallbacks) if spec.uses_model else ()

    def _changed(self, breaker: Breaker) -> None:
        if breaker.standing is Standing.OPEN:
            self._metrics.count("model_breaker_opens")
        self._slots.offer(gated=self._models.breakers.worst is not Standing.CLOSED)
