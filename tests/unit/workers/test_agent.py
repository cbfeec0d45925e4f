"""An author's mistakes are told at registration, in a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.codes import Code
from schemas.errors import Refusal
from schemas.turn import Turn
from tests.support.stage import INFO, Stage
from workers.agent import Agent, AgentSpec, AgentTurn, RegistrationError, SessionInfo, agent
from workers.context import Context


async def _build(spec: AgentSpec, session: SessionInfo) -> Agent:
    raise NotImplementedError


def _sync_build(spec: AgentSpec, session: SessionInfo) -> Agent:
    raise NotImplementedError


async def _one_argument(spec: AgentSpec) -> Agent:
    raise NotImplementedError


class _CallableBuild:
    async def __call__(self, spec: AgentSpec, session: SessionInfo) -> Agent:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": "my agent"}, "name 'my agent': give 1-128 characters out of A-Z a-z 0-9 . _ : -"),
        ({"name": ""}, "name '': give 1-128 characters"),
        ({"version": "1/2"}, "version '1/2': give 1-128 characters"),
        ({"session_idle_s": 0}, "agent a: session_idle_s is 0, give 1 or more"),
        ({"max_reply_bytes": 10**9}, "agent a: max_reply_bytes must be 1 to 245760"),
        ({"build": _sync_build}, "agent a: build is not asynchronous, want `async def …(spec, session)`"),
        ({"build": _one_argument}, r"agent a: build cannot be called with \(spec, session\): too many positional"),
        ({"build": "build"}, "agent a: build is str, want `async def …(spec, session)`"),
    ],
)
def test_a_wrong_spec_is_refused_with_a_sentence(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RegistrationError, match=sentence.replace("…(spec, session)", r"…\(spec, session\)")):
        AgentSpec(**{"name": "a", "version": "1", "build": _build, **fields})


def test_an_object_that_is_called_may_build() -> None:
    assert AgentSpec("a", "1", _CallableBuild()).name == "a"


def test_options_and_tools_that_are_not_allowed_are_refused_by_name() -> None:
    spec = AgentSpec("a", "1", _build, options=frozenset({"x", "b"}), tools=frozenset({"look"}))
    spec.check(Turn(text="hi"))
    spec.check(Turn(text="hi", options={"x": 1}, tools=("look",)))
    with pytest.raises(Refusal, match="options: agent a does not allow 'y'; it allows: b, x") as refused:
        spec.check(Turn(text="hi", options={"x": 1, "y": 2, "z": 3}))
    assert refused.value.code == Code.BAD_REQUEST
    with pytest.raises(Refusal, match="tools: agent a does not allow 'rm'; it allows: look"):
        spec.check(Turn(text="hi", tools=("look", "rm")))
    with pytest.raises(Refusal, match="it allows: none"):
        AgentSpec("a", "1", _build).check(Turn(text="hi", options={"y": 1}))


async def test_a_function_becomes_an_agent() -> None:
    @agent(name="upper", version="2", description="Loud")
    async def upper(turn: AgentTurn, ctx: Context) -> str:
        return turn.text.upper()

    assert (upper.name, upper.version, upper.description) == ("upper", "2", "Loud")
    result = await Stage(await upper.build(upper, INFO)).play()
    assert result.text == "HI"


def test_a_function_with_another_signature_is_refused() -> None:
    with pytest.raises(RegistrationError, match=r"agent bad: run cannot be called with \(turn, ctx\)"):

        @agent(name="bad", version="1")  # type: ignore[arg-type]
        async def run(turn: AgentTurn) -> str:
            return ""

    with pytest.raises(RegistrationError, match=r"agent bad: run is not asynchronous, want `async def …\(turn, ctx\)`"):

        @agent(name="bad", version="1")  # type: ignore[arg-type]
        def run(turn: AgentTurn, ctx: Context) -> str:
            return ""
