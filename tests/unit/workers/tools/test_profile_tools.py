"""The tools of the profile: whole only by `read_profile`, changed only by `remember` and `forget`, undone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from journal.memory_parts import MemoryProfiles
from journal.port import StoreUnavailable
from schemas.errors import RetryableError
from schemas.history import ToolCall
from schemas.profile import Profile
from tests.support.stage import INFO, NOON_MS, Stage
from workers.agent import AgentTurn
from workers.context import Context
from workers.tools.calling import call_tool
from workers.tools.profile import profile_tools
from workers.tools.tool import BadArguments, ToolOutput
from workers.tools.toolbox import Toolbox

BOB = INFO._replace(user="bob")


async def ask(profiles: Any, name: str, key: str = "k", info: Any = INFO, **given: Any) -> ToolOutput:
    tools = {tool.name: tool for tool in profile_tools(profiles, info, "t1", lambda: NOON_MS)}
    return await tools[name].call(given, idempotency_key=key)


async def facts(profiles: MemoryProfiles, user: str = INFO.user) -> Any:
    held = await profiles.load(INFO.tenant, user)
    return held.facts if held is not None else {}


async def test_what_is_remembered_says_where_it_comes_from() -> None:
    profiles = MemoryProfiles()
    made: Any = (await ask(profiles, "remember", fact="has a cat")).data

    assert made["version"] == 1
    assert await facts(profiles) == {
        made["remembered"]: {
            "fact": "has a cat",
            "session": INFO.session,
            "turn": "t1",
            "at_ms": NOON_MS,
            "version": 1,
        }
    }
    read: Any = (await ask(profiles, "read_profile")).data
    assert read == {"version": 1, "summary": "", "facts": await facts(profiles)}


async def test_one_key_learns_once_and_a_known_fact_is_not_learned_again() -> None:
    profiles = MemoryProfiles()
    one = await ask(profiles, "remember", fact="has a cat")
    again = await ask(profiles, "remember", fact="has a cat")
    other = await ask(profiles, "remember", "k2", fact="has a cat")

    assert one.data == again.data == other.data
    assert len(await facts(profiles)) == 1


async def test_it_is_undone_by_id_or_by_version_and_nothing_else_is() -> None:
    profiles = MemoryProfiles()
    own: Any = {"city": "Bonn", "fake": {"fact": "x", "version": 2}}
    await profiles.replace(Profile(tenant=INFO.tenant, user=INFO.user, version=1, summary="mine", facts=own))
    one: Any = (await ask(profiles, "remember", "k1", fact="one")).data
    two: Any = (await ask(profiles, "remember", "k2", fact="two")).data
    by_id: Any = (await ask(profiles, "forget", id=one["remembered"])).data
    by_version: Any = (await ask(profiles, "forget", version=two["version"])).data
    vain: Any = [(await ask(profiles, "forget", **given)).data for given in ({"id": "city"}, {"version": 2})]

    assert by_id["forgotten"] == [one["remembered"]]
    assert by_version["forgotten"] == [two["remembered"]]
    assert [one["forgotten"] for one in vain] == [[], []]
    assert await facts(profiles) == own
    assert (await ask(profiles, "forget")).is_error


async def test_a_hand_reaches_its_own_users_profile_alone() -> None:
    profiles = MemoryProfiles()
    await asyncio.gather(
        *(
            ask(profiles, "remember", f"{info.user}{n}", info, fact=f"{info.user} {n}")
            for n in range(5)
            for info in (INFO, BOB)
        )
    )
    for user in ("ann", "bob"):
        held = await facts(profiles, user)
        assert {it["fact"] for it in held.values()} == {f"{user} {n}" for n in range(5)}
    name = next(iter(await facts(profiles)))
    stolen: Any = (await ask(profiles, "forget", info=BOB, id=name)).data
    assert stolen["forgotten"] == []
    with pytest.raises(BadArguments):
        await ask(profiles, "remember", fact="x", user="bob")
    with pytest.raises(BadArguments):
        await ask(profiles, "read_profile", user="bob")


async def test_a_full_profile_says_so_and_stays_as_it_was() -> None:
    profiles = MemoryProfiles()
    await profiles.replace(Profile(tenant=INFO.tenant, user=INFO.user, version=1, facts={"x": "y" * 65_500}))
    made = await ask(profiles, "remember", fact="z" * 500)

    assert made.is_error
    assert list(await facts(profiles)) == ["x"]


async def test_a_store_that_does_not_answer_may_be_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(*_: object) -> None:
        raise StoreUnavailable("gone")

    profiles = MemoryProfiles()
    monkeypatch.setattr(profiles, "load", silent)
    for name, given in (("read_profile", {}), ("remember", {"fact": "x"}), ("forget", {"id": "x"})):
        with pytest.raises(RetryableError):
            await ask(profiles, name, **given)


async def test_a_crash_in_the_middle_of_remember_learns_once() -> None:
    profiles = MemoryProfiles()
    call = ToolCall(call="c1", name="remember", arguments={"fact": "has a cat"})

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        output = await call_tool(ctx, Toolbox(ctx.profile_tools, ctx.info), call)
        return str(output.is_error)

    first = Stage(agent, profiles=profiles)
    assert (await first.play()).text == "False"
    assert len(first.link.intents) == 1
    again = Stage(agent, profiles=profiles, attempt=2, intents=first.link.intents)
    assert (await again.play()).text == "False"

    assert len(await facts(profiles)) == 1


async def test_an_agent_without_profile_has_none_of_the_tools() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> str:
        return str(len(ctx.profile_tools))

    assert (await Stage(agent).play()).text == "0"
    assert (await Stage(agent, profiles=MemoryProfiles()).play()).text == "3"
