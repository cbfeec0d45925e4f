"""What the README shows is what works: its example agents run, its commands exist. Starts no process.

What it leaves to docs/agents.md is looked up there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

from typer.testing import CliRunner

from fleet.__main__ import app
from schemas.settings import ModelSettings
from tests.support.memory_fleet import MemoryFleet
from workers.agent import AgentSpec, AgentTurn, SessionInfo
from workers.apart import Given
from workers.context import Context
from workers.models.retry import ModelCaller
from workers.models.scripted import Script, ScriptedModel
from workers.registry import specs_of

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
SHOWN = README + (ROOT / "docs" / "agents.md").read_text()
ADA = SessionInfo(tenant="default", session="s1", user="ada", agent="greeter", agent_version="1")


def example(name: str) -> AgentSpec:
    """The agent of that name out of the Python blocks."""
    for block in re.findall(r"```python\n(.*?)```", SHOWN, flags=re.S):
        if f'name="{name}"' not in block:
            continue
        names: dict[str, object] = {"__name__": name}
        exec(block, names)
        if name in names:
            (spec,) = specs_of(names[name], "README.md")
            return spec
    raise AssertionError(f"the docs have no agent {name}")


def test_the_test_of_the_readme_passes() -> None:
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", README, flags=re.S) if "fleet.testing" in block)
    names: dict[str, Any] = {"__name__": "test_dice", "dice": example("dice")}
    exec(block, names)

    names["test_it_rolls_once_and_talks_about_it"]()


async def test_the_shortest_agent_answers() -> None:
    spec = example("greeter")
    agent = await spec.build(spec, ADA)

    answer = await agent.run(AgentTurn(id="t1", text="Ada"), cast("Context", None))

    assert answer == "Hello, Ada!"


def test_the_agent_for_a_process_of_its_own_answers() -> None:
    spec = example("digits")
    assert spec.work is not None

    assert spec.work(AgentTurn(id="t1", text="a1b2"), Given(ADA, (), 0)) == "3000000"


async def test_the_agent_with_a_step_and_a_model_answers_through_a_whole_worker() -> None:
    model = ScriptedModel([Script(("A", " fine", " number."))])

    async with MemoryFleet(example("dice"), default="dice") as fleet:
        fleet.models = ModelCaller(model, ModelSettings())
        await fleet.worker()
        fleet.turn("s1", "roll", turn="t1")
        await fleet.until(lambda: fleet.terminals(), timeout_s=5)
        (frame,) = fleet.frames("s1", "completed")

    assert re.fullmatch(r"You rolled ([1-6])\. A fine number\.", frame["text"])
    assert [item.text for item in model.calls[0].request.messages] == [
        f"Say one nice sentence about the number {frame['text'][11]}."
    ]


async def test_the_agent_with_tools_writes_down_what_it_is_about_to_call() -> None:
    async with MemoryFleet(example("payer"), default="payer") as fleet:
        await fleet.worker()
        fleet.turn("s1", "Ada", turn="t1")
        await fleet.until(lambda: fleet.terminals(), timeout_s=5)
        (frame,) = fleet.frames("s1", "completed")
        kinds = [row.kind for row in await fleet.store.journal.read("default/s1", 0)]

    assert frame["text"] == "5 cents are paid; mail to Ada is sent"
    assert kinds == ["claim", "intent", "step", "intent", "step", "finish"]


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
