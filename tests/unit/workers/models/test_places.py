"""Calls at a time to one provider."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import ValidationError

from schemas.settings import ModelSettings
from workers.models.places import Places


async def hold(places: Places, model: str, log: list[str], name: str, let_go: asyncio.Event) -> None:
    async with places.one(model):
        log.append(name)
        await let_go.wait()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_came_first_is_served_first_and_nobody_slips_in() -> None:
    places, log, gates = Places({"anthropic": 1}), ["" for _ in ()], [asyncio.Event() for _ in range(4)]
    tasks = [asyncio.create_task(hold(places, "anthropic:a", log, str(n), gates[n])) for n in range(3)]
    await turns()
    assert (log, places.waiting, places.free("anthropic:b")) == (["0"], 2, False)
    gates[0].set()
    tasks.append(asyncio.create_task(hold(places, "anthropic:b", log, "3", gates[3])))
    for gate in gates[1:]:
        await turns()
        gate.set()
    await asyncio.gather(*tasks)
    assert (log, places.waiting, places.free("anthropic:a")) == (["0", "1", "2", "3"], 0, True)


async def test_who_gives_up_waiting_leaves_no_hole_whenever_it_does() -> None:
    for steps in range(6):
        places, log, gate = Places({"*": 1}), ["" for _ in ()], asyncio.Event()
        first = asyncio.create_task(hold(places, "m", log, "first", gate))
        await turns()
        second = asyncio.create_task(hold(places, "m", log, "second", gate))
        third = asyncio.create_task(hold(places, "m", log, "third", gate))
        await turns()
        gate.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(first, second, third, return_exceptions=True)
        assert "third" in log
        assert places.free("m")


async def test_providers_do_not_wait_for_each_other_and_without_a_limit_nobody_waits() -> None:
    places, log, gate = Places({"anthropic": 1}), ["" for _ in ()], asyncio.Event()
    names = ["anthropic:a", "google:g", "google:g", "m", "llama3:8b"]
    tasks = [asyncio.create_task(hold(places, name, log, name, gate)) for name in names]
    await turns()
    assert log == names
    gate.set()
    await asyncio.gather(*tasks)


def test_the_setting_names_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_MODEL_CONCURRENCY", "anthropic=8, *=64")
    assert ModelSettings().model_concurrency == {"anthropic": 8, "*": 64}
    for wrong in ("antropic=8", "google=-1", "google=x", "google"):
        monkeypatch.setenv("FLEET_MODEL_CONCURRENCY", wrong)
        with pytest.raises(ValidationError):
            ModelSettings()
