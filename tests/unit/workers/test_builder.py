"""Building an agent fails typed, never otherwise."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schemas.codes import Code
from schemas.errors import TerminalError
from tests.support.stage import INFO
from workers.agent import Agent, AgentSpec, AgentTurn, RegistrationError, SessionInfo
from workers.builder import Builder, describe
from workers.context import Context


class Good:
    async def run(self, turn: AgentTurn, ctx: Context) -> str:
        return "x"


class Sync:
    def run(self, turn: AgentTurn, ctx: Context) -> str:
        return "x"


def spec_of(made: Any) -> AgentSpec:
    async def build(spec: AgentSpec, session: SessionInfo) -> Any:
        if isinstance(made, BaseException):
            raise made
        return made

    return AgentSpec("mine", "1", build)


async def test_an_agent_is_built_for_its_session_and_timed() -> None:
    given: list[SessionInfo] = []
    timed: list[tuple[str, int]] = []

    async def build(spec: AgentSpec, session: SessionInfo) -> Good:
        given.append(session)
        return Good()

    builder = Builder(built=lambda name, us: timed.append((name, us)))
    spec = AgentSpec("mine", "1", build)
    first = await builder.build(spec, INFO)
    assert isinstance(first, Good)
    assert await builder.build(spec, INFO) is not first
    assert given == [INFO, INFO]
    assert [name for name, _ in timed] == ["mine", "mine"]
    assert all(us >= 0 for _, us in timed)


@pytest.mark.parametrize(
    ("made", "code", "message"),
    [
        (OSError("no disk\nsecret"), Code.AGENT_ERROR, "agent mine could not be built: OSError: no disk"),
        (SystemExit(1), Code.AGENT_ERROR, "agent mine could not be built: SystemExit: 1"),
        (TerminalError(Code.QUOTA, "spent"), Code.QUOTA, "spent"),
        (None, Code.AGENT_ERROR, "agent mine: NoneType.run is NoneType, want `async def …(turn, ctx)`"),
        (Sync(), Code.AGENT_ERROR, "agent mine: Sync.run is not asynchronous, want `async def …(turn, ctx)`"),
    ],
)
async def test_a_build_that_fails_is_typed(made: object, code: Code, message: str) -> None:
    with pytest.raises(TerminalError) as raised:
        await Builder().build(spec_of(made), INFO)
    assert (raised.value.code, str(raised.value)) == (code, message)


async def test_a_build_that_hangs_is_ended() -> None:
    async def build(spec: AgentSpec, session: SessionInfo) -> Good:
        await asyncio.get_running_loop().create_future()
        return Good()

    with pytest.raises(TerminalError, match="agent mine could not be built within 0 s"):
        await Builder(0).build(AgentSpec("mine", "1", build), INFO)


def test_an_exception_is_described_by_its_type_and_first_line() -> None:
    assert describe(ValueError("a\nb")) == "ValueError: a"
    assert describe(ValueError("x" * 10_000)) == "ValueError: " + "x" * 300
    assert describe(KeyError()) == "KeyError"


async def test_what_is_dear_to_make_is_made_before_the_first_turn_and_a_failure_is_none_of_the_others() -> None:
    made: list[str] = []

    def warming(name: str, *, hangs: bool = False, fails: bool = False) -> AgentSpec:
        async def warm_up() -> None:
            made.append(name)
            if hangs:
                await asyncio.Event().wait()
            if fails:
                raise ValueError("no weights")

        async def build(spec: AgentSpec, session: SessionInfo) -> Agent:
            raise AssertionError

        return AgentSpec(name, "1", build, warm_up=warm_up)

    await Builder(0.01).warm_up([warming("a", hangs=True), warming("b", fails=True), warming("c")])

    assert sorted(made) == ["a", "b", "c"]


def test_a_warm_up_that_cannot_be_called_is_refused_at_registration() -> None:
    async def build(spec: AgentSpec, session: SessionInfo) -> Agent:
        raise AssertionError

    with pytest.raises(RegistrationError, match="agent a: warm_up is not asynchronous"):
        AgentSpec("a", "1", build, warm_up=lambda: None)  # type: ignore[arg-type, return-value]
