"""A model that takes no calls holds back the turns that would ask it, and nothing else."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from schemas.codes import Code
from schemas.errors import RetryableError
from schemas.settings import ModelSettings
from tests.support.memory_fleet import MemoryFleet
from workers.models.port import ModelRequest
from workers.models.retry import ModelCaller
from workers.models.scripted import Script, ScriptedModel


class Provider:
    """Answers 429 while it is `down`."""

    def __init__(self) -> None:
        self.down = True
        self.model = ScriptedModel(self._answer)

    def _answer(self, request: ModelRequest) -> Script:
        limited = RetryableError("429", code=Code.MODEL_RATE_LIMITED)
        return Script(error=limited) if self.down else Script(tokens=("back",))


@asynccontextmanager
async def limited_fleet(provider: Provider, open_s: float = 0.3) -> AsyncIterator[MemoryFleet]:
    """A fleet whose breaker is open: a few turns have met the provider and failed."""
    settings = ModelSettings(
        model_attempts=1, model_breaker_failures=3, model_breaker_open_s=open_s, model_breaker_wait_s=0.0
    )
    async with MemoryFleet(default="chat") as fleet:
        fleet.models = ModelCaller(provider.model, settings)
        await fleet.worker()
        for number in range(3):
            fleet.turn(f"first{number}", turn="t")
        await fleet.until(lambda: len(fleet.terminals()) == 3)
        assert {frames[0]["code"] for frames in fleet.terminals().values()} == {"model_rate_limited"}
        yield fleet


async def test_turns_wait_instead_of_failing_and_go_on_when_the_model_is_back() -> None:
    provider = Provider()
    async with limited_fleet(provider) as fleet:
        slots = fleet.workers[0][0].system.slots
        for number in range(5):
            fleet.turn(f"s{number}", turn="t")
        await fleet.until(lambda: slots.held == 5)
        assert slots.free == slots.count
        provider.down = False
        await fleet.until(lambda: len(fleet.terminals()) == 8)
        ended = [frames[0]["type"] for name, frames in fleet.terminals().items() if name.startswith("s")]
        assert ended == ["completed"] * 5
        assert slots.held == 0
        assert len(provider.model.calls) <= 3 + 5 + 2  # what failed, what was held, and probes


async def test_agents_without_a_model_and_commands_go_on() -> None:
    async with limited_fleet(Provider()) as fleet:
        fleet.turn("asks", turn="t1")
        await fleet.until(lambda: fleet.workers[0][0].system.slots.held == 1)
        fleet.turn("plain", turn="t1", agent="echo")
        await fleet.until(lambda: fleet.frames("plain", "completed"))
        fleet.control("asks", op="c1", kind="cancel", turn="t1")
        await fleet.until(lambda: fleet.frames("asks", "ack"))
        assert fleet.frames("asks", "ack")[0]["state"] == "applied"
        assert [frame["type"] for frame in fleet.terminals()["asks~t1"]] == ["cancelled"]
        assert fleet.workers[0][0].system.slots.held == 0


async def test_a_turn_that_is_held_back_ends_at_its_deadline() -> None:
    provider = Provider()
    async with limited_fleet(provider, open_s=60.0) as fleet:
        asked = len(provider.model.calls)
        fleet.turn("s1", turn="t1", deadline_ms=int(time.time() * 1000) + 400)
        began_s = time.monotonic()
        await fleet.until(lambda: fleet.terminals().get("s1~t1"))
        assert fleet.terminals()["s1~t1"][0]["code"] == "deadline_exceeded"
        assert time.monotonic() - began_s < 0.4 + 2.0 + 0.6  # P9: two seconds, and what a busy machine adds
        assert len(provider.model.calls) == asked
