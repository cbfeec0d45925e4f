"""What the README shows is what works: its example agents run, its commands exist. Starts no process."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

from typer.testing import CliRunner

from fleet.__main__ import app
from workers.agent import AgentSpec, AgentTurn, SessionInfo
from workers.context import Context
from workers.registry import specs_of

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
ADA = SessionInfo(tenant="default", session="s1", user="ada", agent="greeter", agent_version="1")


def examples() -> list[dict[str, object]]:
    """The names that each Python block of the README defines."""
    found = []
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.S):
        names: dict[str, object] = {"__name__": "greeter"}
        exec(block, names)
        found.append(names)
    return found


async def test_the_shortest_agent_answers() -> None:
    (spec,) = specs_of(examples()[0]["greeter"], "README.md")
    assert isinstance(spec, AgentSpec)
    agent = await spec.build(spec, ADA)

    answer = await agent.run(AgentTurn(id="t1", text="Ada"), cast("Context", None))

    assert answer == "Hello, Ada!"


def test_every_fleet_command_of_the_readme_exists() -> None:
    wanted = set(re.findall(r"\.venv/bin/fleet (\w+)", README))
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120", "NO_COLOR": "1"}).output

    assert {"chat", "send", "agents"} <= wanted
    assert wanted <= set(re.findall(r"\w+", shown))


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.M))

    assert set(re.findall(r"`?make (\w+)`?", README.split("## Work on it")[1])) <= targets
    assert re.findall(r"^make (\w+)$", README, flags=re.M) == ["run"]


def test_the_runner_of_the_readme_finds_its_two_commands() -> None:
    section = README.split("## Run it", 1)[1].split("\n## ", 1)[0]

    assert re.findall(r"```sh\n(.*?)\n```", section, flags=re.S) == ["make run", ".venv/bin/fleet chat"]
