"""Profiles and compaction with whole workers: whose profile a model sees, when it changes, what a take-over sees."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from journal import profiles as stored
from schemas.settings import ModelSettings
from tests.support.memory_fleet import MemoryFleet
from workers.agent import Agent, AgentSpec, SessionInfo
from workers.agents.chat import Chat
from workers.models.port import ModelRequest
from workers.models.retry import ModelCaller
from workers.models.scripted import Script, ScriptedModel
from workers.prompt.compaction import Compaction
from workers.prompt.turn import Layout


def seen(request: ModelRequest) -> str:
    """All that the model was told."""
    return request.system + "".join(item.text for item in request.messages)


class Told:
    """A model that keeps what it was told; it holds its answers back while `held`."""

    def __init__(self, answer: str = "Fine.") -> None:
        self.requests: list[ModelRequest] = []
        self.answer = answer
        self.model = ScriptedModel(self._answer)

    def _answer(self, request: ModelRequest) -> Script:
        self.requests.append(request)
        return Script(tokens=(self.answer,))

    def of(self, session: str) -> list[str]:
        return [seen(request) for request in self.requests if request.session == session]


async def write(fleet: MemoryFleet, user: str, summary: str, tenant: str = "default") -> None:
    await stored.change(fleet.store.profiles, (tenant, user), lambda _: (summary, {}), now_ms=1)


async def ended(fleet: MemoryFleet, turns: int) -> None:
    await fleet.until(lambda: len(fleet.terminals()) == turns)


async def test_every_session_sees_its_own_users_profile_and_nobody_elses() -> None:
    told = Told()
    whose = [(tenant, user) for tenant in ("default", "acme") for user in ("ann", "bob", "eve")]
    async with MemoryFleet(default="chat") as fleet:
        fleet.models = ModelCaller(told.model, ModelSettings())
        await fleet.worker()
        for tenant, user in whose[:-1]:
            await write(fleet, user, f"canary-{tenant}-{user}", tenant)
        for number in range(3):
            for tenant, user in whose:
                fleet.turn(f"{tenant}-{user}", turn=f"t{number}", user=user, tenant=tenant)
        await fleet.until(lambda: len(told.requests) == 3 * len(whose))
        await fleet.until(fleet.committed_everything)

    for tenant, user in whose:
        texts = told.of(f"{tenant}-{user}")
        assert len(texts) == 3
        for text in texts:
            held = [f"canary-{t}-{u}" for t, u in whose if f"canary-{t}-{u}" in text]
            assert held == ([f"canary-{tenant}-{user}"] if (tenant, user) != whose[-1] else [])


async def test_a_profile_that_changes_is_seen_by_the_next_turn() -> None:
    told = Told()
    async with MemoryFleet(default="chat") as fleet:
        fleet.models = ModelCaller(told.model, ModelSettings())
        await fleet.worker()
        for number, text in enumerate(["", "likes tea", "likes coffee", ""]):
            await write(fleet, "ann", text)
            fleet.turn("s1", turn=f"t{number}", user="ann")
            await ended(fleet, number + 1)

        kinds = [frame["kind"] for frame in fleet.frames("s1", "step")]

    texts = told.of("s1")
    assert ["tea" in text for text in texts] == [False, True, False, False]
    assert ["coffee" in text for text in texts] == [False, False, True, False]
    assert "user-profile" not in texts[0] + texts[3]
    assert kinds == ["model", "profile", "model", "profile", "model", "model"]


async def test_the_worker_that_takes_a_turn_over_sees_the_profile_that_it_began_with() -> None:
    told, reached = Told(), asyncio.Event()
    chat = Chat()

    class Waits:
        async def run(self, turn: Any, ctx: Any) -> Any:
            reached.set()
            if (turn.id, turn.attempt) == ("t1", 1):
                await asyncio.get_running_loop().create_future()
            return await chat.run(turn, ctx)

    async def build(spec: AgentSpec, session: SessionInfo) -> Agent:
        return Waits()

    spec = AgentSpec(name="waits", version="1", build=build, profile=True)
    async with MemoryFleet(spec, default="waits", worker_drain_s=0.05) as fleet:
        fleet.models = ModelCaller(told.model, ModelSettings())
        first = await fleet.worker()
        await write(fleet, "ann", "likes tea")
        fleet.turn("s1", turn="t1", user="ann")
        await asyncio.wait_for(reached.wait(), 10)
        await write(fleet, "ann", "likes coffee")
        await first.drain()
        await fleet.worker()
        await fleet.until(lambda: fleet.terminals())
        fleet.turn("s1", turn="t2", user="ann")
        await ended(fleet, 2)

    texts = told.of("s1")
    assert ["tea" in text for text in texts] == [True, False]
    assert ["coffee" in text for text in texts] == [False, True]


async def test_a_long_session_is_summarised_and_its_history_stays_whole() -> None:
    told = Told("Fine.")
    chat = Chat(layout=Layout(compaction=Compaction(threshold=1_000, keep=300, summary=100)))

    async def build(spec: AgentSpec, session: SessionInfo) -> Agent:
        return chat

    spec = AgentSpec(name="short", version="1", build=build, profile=True)
    async with MemoryFleet(spec, default="short") as fleet:
        fleet.models = ModelCaller(told.model, ModelSettings())
        worker = await fleet.worker()
        for number in range(12):
            fleet.turn("s1", text=f"{number} " + "word " * 160, turn=f"t{number}")
            await ended(fleet, number + 1)
        state = await fleet.state("s1")
        counted = dict(worker.system.metrics.counts["compactions"])

    summaries = [request for request in told.requests if "shorten conversations" in request.system]
    assert len(state.history) == 24
    assert state.history[0].text.startswith("0 ")
    assert counted == {"summarised": len(summaries)}
    assert len(summaries) >= 2
    assert "earlier-conversation" in seen(told.requests[-1])
    assert len(told.requests[-1].messages) < 12
    assert json.dumps(dict(state.kept)).count("upto") == 1
