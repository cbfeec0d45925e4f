"""No tool is shadowed without a word by one of the platform, or by another one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from workers.agent import RegistrationError
from workers.agents.one.agent import spec as one
from workers.agents.one.hands import OWN, own_specs
from workers.agents.team import agent as team
from workers.mcp.config import load
from workers.mcp.listing import listing
from workers.tools import reserved
from workers.tools.profile import _TOOLS
from workers.tools.tool import Tool, tool


def called(name: str) -> Tool:
    @tool(name=name)
    async def it() -> str:
        """It."""
        return "it"

    return it


def test_the_names_are_those_of_the_platforms_tools() -> None:
    assert OWN == reserved.ONE == {spec.name for spec in own_specs()}
    assert {tool.name for tool in _TOOLS} == reserved.PROFILE
    assert {team.HAND_OVER, team.DELEGATE} == reserved.TEAM


@pytest.mark.parametrize("name", sorted(reserved.ONE | reserved.PROFILE))
def test_one_agent_takes_no_tool_that_is_called_like_one_of_ours(name: str) -> None:
    with pytest.raises(RegistrationError, match=f"agent one: the platform has a tool '{name}' of its own"):
        one(tools=[called("fine"), called(name)])


@pytest.mark.parametrize("name", sorted(reserved.TEAM))
def test_neither_does_a_specialist(name: str) -> None:
    with pytest.raises(RegistrationError, match=f"specialist w: the platform has a tool '{name}'"):
        team.Specialist("w", "writes", "Write.", tools=(called(name),))
    with pytest.raises(RegistrationError, match=f"specialist w: the platform has a tool '{name}'"):
        team.Specialist("w", "writes", "Write.", served=frozenset({name}))
    with pytest.raises(RegistrationError, match="two tools are called 'a'"):
        team.Specialist("w", "writes", "Write.", tools=(called("a"),), served=frozenset({"a"}))


@pytest.mark.parametrize("name", sorted(reserved.RESERVED))
def test_a_server_in_the_operators_file_has_none_either(name: str, tmp_path: Path) -> None:
    place = tmp_path / "mcp.yaml"
    server = {"transport": "stdio", "command": "it", "tools": {name: {}}}
    place.write_text(yaml.safe_dump({"servers": {"it": {**server, "prefix": ""}}}))
    with pytest.raises(RegistrationError, match=f"server it: the platform has a tool '{name}'"):
        load(place, {})
    place.write_text(yaml.safe_dump({"servers": {"it": server}}))
    assert load(place, {}).servers["it"].prefix_of("it") == "it_"


def test_two_servers_of_the_file_have_no_tool_of_one_name(tmp_path: Path) -> None:
    place = tmp_path / "mcp.yaml"
    server = {"transport": "stdio", "command": "it", "tools": {"find": {}}, "prefix": "x_"}
    place.write_text(yaml.safe_dump({"servers": {"a": server, "b": server}}))
    with pytest.raises(RegistrationError, match="servers a and b both have a tool 'x_find'"):
        load(place, {})


def test_one_that_a_server_lists_later_is_left_out_and_its_list_says_why() -> None:
    made = listing([{"name": "task", "inputSchema": {"type": "object"}}], prefix="")
    assert made.tools == ()
    assert [(left.name, left.why) for left in made.left] == [
        ("task", "the platform has a tool 'task' of its own: give the server a prefix")
    ]
