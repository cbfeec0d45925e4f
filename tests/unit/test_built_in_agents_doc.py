"""docs/built-in-agents.md says what the code says: each agent, node and bound."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

from workers.agents.one import plan, workspace
from workers.agents.one.agent import One
from workers.agents.one.loop import Bounds
from workers.agents.workflow import nodes
from workers.registry import builtin_specs

PAGE = (Path(__file__).parents[2] / "docs" / "built-in-agents.md").read_text()


def test_each_agent_has_its_section() -> None:
    assert re.findall(r"^## `(\w+)`", PAGE, re.MULTILINE) == [spec.name for spec in builtin_specs()]


@pytest.mark.parametrize("name", re.findall(r"^\| `(\w+)\(", PAGE, re.MULTILINE))
def test_each_node_is_there_with_its_parameters(name: str) -> None:
    told = re.search(rf"^\| `{name}\(([^)]*)\)`", PAGE, re.MULTILINE)
    assert told is not None
    fields = {field.name for field in dataclasses.fields(getattr(nodes, name))}
    assert {one.strip(" =") for one in told[1].split(",")} <= fields


def test_every_node_is_told() -> None:
    made = {name for name, one in vars(nodes).items() if dataclasses.is_dataclass(one)}
    assert set(re.findall(r"^\| `(\w+)\(", PAGE, re.MULTILINE)) == made


def test_the_bounds_are_those_of_the_code() -> None:
    bounds = Bounds()
    assert f"{bounds.steps} model calls, {bounds.tokens:,} tokens, {bounds.reserve_s:g} s kept" in PAGE
    assert f"of one answer at once, {bounds.side_by_side} at most" in PAGE
    assert f"at most {plan.MAX_ITEMS} items" in PAGE
    assert f"{workspace.MAX_FILES} of at most {workspace.MAX_FILE_BYTES // 1024} KiB" in PAGE
    assert f"{workspace.MAX_BYTES // 1024} KiB in all" in PAGE
    helpers = inspect.signature(One).parameters["helpers"].default
    assert f"{helpers} a turn" in PAGE
