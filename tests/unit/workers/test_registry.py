"""Which agents there are, and what is said when there are not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from schemas.codes import Code
from schemas.errors import Refusal
from workers.agent import Agent, AgentSpec, RegistrationError, SessionInfo
from workers.registry import GROUP, Registry


async def _build(spec: AgentSpec, session: SessionInfo) -> Agent:
    raise NotImplementedError


def spec(name: str) -> AgentSpec:
    return AgentSpec(name, "1", _build)


def _fails() -> None:
    raise ValueError("no key")


@pytest.fixture
def mine() -> Iterator[ModuleType]:
    module = ModuleType("mine_for_tests")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def load(*places: str, default: str = "chat", found: tuple[EntryPoint, ...] = ()) -> Registry:
    return Registry.load(places, default, found=lambda: found)


def test_the_built_in_agents_are_there_without_any_setting() -> None:
    registry = load()
    assert [item.name for item in registry] == ["echo", "chat", "workflow", "team", "one"]
    assert registry.get(None).name == "chat"
    assert registry.get("echo").name == "echo"
    assert "echo" in registry
    assert "nobody" not in registry
    assert registry.place("echo") == "turnfleet"
    assert len(registry) == 5


@pytest.mark.parametrize("shape", ["one", "list", "dict", "registry", "function", "generator", "nested"])
def test_a_registry_comes_in_many_shapes(mine: ModuleType, shape: str) -> None:
    holder = ModuleType("holder")
    holder.agents = [spec("a")]  # type: ignore[attr-defined]
    mine.registry = {  # type: ignore[attr-defined]
        "one": spec("a"),
        "list": [spec("a")],
        "dict": {"a": spec("a")},
        "registry": Registry([spec("a")]),
        "function": lambda: [spec("a")],
        "generator": (spec(name) for name in "a"),
        "nested": holder,
    }[shape]
    name = "registry.agents" if shape == "nested" else "registry"
    registry = load(f"mine_for_tests:{name}", default="a")
    assert registry.get(None).name == "a"
    assert registry.place("a") == f"mine_for_tests:{name}"


def test_entry_points_are_loaded(mine: ModuleType) -> None:
    mine.agents = [spec("a")]  # type: ignore[attr-defined]
    point = EntryPoint("mine", "mine_for_tests:agents", GROUP)
    registry = load(found=(point,))
    assert registry.get("a").name == "a"
    assert registry.place("a") == "entry point mine = mine_for_tests:agents"


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("mine_for_tests", None, "FLEET_AGENTS: 'mine_for_tests' is no `package.module:registry`"),
        (":x", None, "FLEET_AGENTS: ':x' is no `package.module:registry`"),
        ("mine_for_tests:nothing", None, "FLEET_AGENTS: mine_for_tests has no 'nothing'"),
        ("no_such_module:x", None, "FLEET_AGENTS: no_such_module cannot be imported: ModuleNotFoundError"),
        ("mine_for_tests:registry", 7, "mine_for_tests:registry is int, want AgentSpecs: a list, a mapping or a Reg"),
        ("mine_for_tests:registry", "chat", "mine_for_tests:registry is str, want AgentSpecs"),
        ("mine_for_tests:registry", [7], "mine_for_tests:registry holds int, want AgentSpec"),
        ("mine_for_tests:registry", {"b": spec("a")}, "key 'b' holds the agent 'a'; use its name as the key"),
        ("mine_for_tests:registry", [spec("echo")], "'echo' of mine_for_tests:registry is registered already by turn"),
        ("mine_for_tests:registry", [spec("a"), spec("a")], "agent 'a' of mine_for_tests:registry is registered alrea"),
        ("mine_for_tests:registry", _fails, "mine_for_tests:registry raised ValueError: no key"),
    ],
)
def test_a_registry_that_cannot_be_used_is_a_sentence(
    mine: ModuleType, place: str, value: object, sentence: str
) -> None:
    mine.registry = value  # type: ignore[attr-defined]
    with pytest.raises(RegistrationError) as refused:
        load(place)
    assert sentence in str(refused.value)


def test_an_entry_point_that_cannot_be_loaded_is_a_sentence() -> None:
    with pytest.raises(RegistrationError, match="entry point x = no_such_module:x cannot be loaded: ModuleNotFoundErr"):
        load(found=(EntryPoint("x", "no_such_module:x", GROUP),))


def test_a_default_that_nobody_registered_is_a_sentence() -> None:
    with pytest.raises(RegistrationError, match="FLEET_AGENT: no agent 'caht' is registered; there are: chat, echo"):
        load(default="caht")


def test_an_unknown_agent_is_refused_with_its_code() -> None:
    with pytest.raises(Refusal, match="no agent 'x' is registered; there are: chat, echo") as refused:
        load().get("x")
    assert refused.value.code == Code.AGENT_UNKNOWN
    with pytest.raises(Refusal, match="there are: none"):
        Registry().get(None)
