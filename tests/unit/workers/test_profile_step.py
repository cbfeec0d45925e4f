"""The user's profile is read at a turn's start and pinned: every attempt sees the same one, and nobody else's."""

from __future__ import annotations

import pytest
from pydantic import JsonValue
from tenacity import wait_none

from journal import profiles as stored
from journal.memory_parts import MemoryProfiles
from journal.port import StoreUnavailable
from schemas.entries import Step
from schemas.profile import Pinned, Profile
from tests.support.stage import INFO, Stage, settle
from workers.agent import AgentTurn
from workers.context import Context


async def written(
    summary: str, facts: dict[str, JsonValue] | None = None, *, user: str = INFO.user, tenant: str = INFO.tenant
) -> MemoryProfiles:
    profiles = MemoryProfiles()
    await profiles.replace(Profile(tenant=tenant, user=user, version=1, summary=summary, facts=facts or {}))
    return profiles


async def tells(turn: AgentTurn, ctx: Context) -> str:
    """An agent that takes one step, then says what it knows."""
    await ctx.step("one", lambda: 1)
    return repr(ctx.profile)


async def test_a_turn_knows_the_profile_as_its_first_step() -> None:
    stage = Stage(tells, profiles=await written("likes tea", {"a": 1, "b": 2}))
    result = await stage.play()

    pinned = Pinned(version=1, summary="likes tea", facts=2)
    assert result.text == repr(pinned)
    assert [(step.step, step.kind, step.name) for step in stage.link.steps] == [
        (0, "profile", "profile"),
        (1, "step", "one"),
    ]
    assert stage.link.steps[0].result == pinned.model_dump()


@pytest.mark.parametrize("summary", ["", None])
async def test_with_no_profile_there_is_no_step(summary: str | None) -> None:
    profiles = MemoryProfiles() if summary is None else await written("")
    stage = Stage(tells, profiles=profiles)
    result = await stage.play()

    assert result.text == "None"
    assert [step.kind for step in stage.link.steps] == ["step"]


async def test_an_agent_that_does_not_ask_for_it_gets_none() -> None:
    stage = Stage(tells, profiles=await written("likes tea"))
    stage.job.wants_profile = False
    result = await stage.play()

    assert (result.text, [step.kind for step in stage.link.steps]) == ("None", ["step"])


@pytest.mark.parametrize("user", ["bob", "ANN", "ann/x"])
async def test_nobody_knows_another_users_profile(user: str) -> None:
    assert (await Stage(tells, profiles=await written("secret", user=user)).play()).text == "None"
    assert (await Stage(tells, profiles=await written("secret", tenant="other")).play()).text == "None"


async def test_a_later_attempt_sees_the_profile_that_the_first_one_saw() -> None:
    profiles = await written("likes tea")
    first = Stage(tells, profiles=profiles)
    text = (await first.play()).text
    await stored.change(profiles, (INFO.tenant, INFO.user), lambda _: ("likes coffee", {}), now_ms=1)
    for steps in (first.link.steps, first.link.steps[:1]):
        again = await Stage(tells, profiles=profiles, attempt=2, steps=steps).play()
        assert again.text == text

    assert "coffee" in (await Stage(tells, profiles=profiles).play()).text


async def test_a_later_attempt_sees_none_where_the_first_one_saw_none() -> None:
    first = Stage(tells, profiles=MemoryProfiles())
    await first.play()
    again = await Stage(tells, profiles=await written("new"), attempt=2, steps=first.link.steps).play()

    assert (again.outcome, again.text) == ("completed", "None")


async def test_a_later_attempt_with_nothing_durable_reads_it_anew() -> None:
    again = await Stage(tells, profiles=await written("new"), attempt=2, steps=[]).play()

    assert "new" in (again.text or "")


async def test_a_profile_of_another_spec_now_is_a_changed_agent() -> None:
    first = Stage(tells, profiles=await written("likes tea"))
    await first.play()
    stage = Stage(tells, attempt=2, steps=first.link.steps)
    result = await stage.play()

    assert (result.outcome, "its code changed" in (result.message or "")) == ("failed", True)


async def test_it_changes_between_turns_only() -> None:
    profiles = await written("likes tea")

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        before = ctx.profile
        await stored.change(profiles, (INFO.tenant, INFO.user), lambda _: ("likes coffee", {}), now_ms=1)
        await ctx.step("one", lambda: 1)
        return str(ctx.profile == before)

    assert (await Stage(agent, profiles=profiles).play()).text == "True"


async def test_a_store_that_does_not_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    profiles = await written("likes tea")
    load, left = profiles.load, [1, 1]

    async def flaky(tenant: str, user: str) -> Profile | None:
        if left:
            left.pop()
            raise StoreUnavailable("gone")
        return await load(tenant, user)

    monkeypatch.setattr(profiles, "load", flaky)
    monkeypatch.setattr("workers.profile_step._WAIT", wait_none())
    stage = Stage(tells, profiles=profiles)
    stage.start()
    await settle()
    assert "likes tea" in (stage.results[0].text or "")


def test_what_is_pinned_is_bounded() -> None:
    facts: dict[str, JsonValue] = {f"f{n}": "x" * 1_000 for n in range(60)}
    pinned = Profile(tenant="t", user="u", version=1, summary="x" * 4_096, facts=facts).pinned
    step = Step(at_ms=1, turn="t", attempt=1, step=0, kind="profile", name="profile", digest="", result={})

    assert len(pinned.model_dump_json()) < 4_300
    assert step.kind == "profile"
