"""Teams: routed once, handed over, delegated to, each with its own instructions, tools and context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from schemas.history import ToolCall
from tests.support.stage import Stage, Told, past
from workers.agent import RegistrationError, SessionInfo
from workers.agents.team.agent import Specialist, Team, team
from workers.models.port import ModelDone, ModelRequest
from workers.result import Result
from workers.tools.tool import Tool, tool


@tool(read_only=True)
def ledger(account: str) -> str:
    """Reads."""
    return f"{account}: 5"


@tool(read_only=True)
def poem() -> str:
    """Rhymes."""
    return "roses"


TEAM = (
    Specialist("talker", "talk", "You talk."),
    Specialist("banker", "money", "You know money.", (ledger,)),
    Specialist("poet", "verse", "You rhyme.", (poem,)),
)
Script = Callable[[ModelRequest, str], Any]


def asks(name: str, **given: Any) -> list[Any]:
    return [ModelDone(calls=(ToolCall(call="x", name=name, arguments=given),))]


async def played(script: Script, kept: dict[str, Any] | None = None, **more: Any) -> tuple[Stage, Result]:
    """`script` gets the request, and which specialist (or `router`) is asked."""

    class Model(Told):
        def stream(self, request: ModelRequest) -> Any:
            self.requests.append(request)
            who = next((one.name for one in TEAM if request.system.startswith(one.instructions)), "router")
            said = script(request, who)
            return self._stream([said] if isinstance(said, str) else said)

    stage = Stage(Team(TEAM), Model(), **more)
    stage.job.kept = kept or {}
    return stage, await stage.play()


async def test_the_router_picks_who_answers_and_the_session_stays_with_them() -> None:
    stage, result = await played(lambda request, who: "Banker" if who == "router" else f"I am {who}")

    assert (result.text, (result.kept or {})["team"]) == ("I am banker", "banker")
    assert "banker" not in "".join(frame.get("text", "") for frame in stage.frames[:1])
    stage, result = await played(lambda request, who: f"I am {who}", kept={"team": "poet"})
    assert (result.text, len(stage.model.requests)) == ("I am poet", 1)


async def test_a_router_that_names_nobody_leaves_it_to_the_first() -> None:
    _, result = await played(lambda request, who: "hm" if who == "router" else f"I am {who}")
    assert result.text == "I am talker"


async def test_each_has_its_own_tools() -> None:
    stage, _ = await played(lambda request, who: f"I am {who}", kept={"team": "banker"})
    assert [spec.name for spec in stage.model.requests[0].tools] == ["hand_over", "delegate", "ledger"]


async def test_a_server_s_tools_are_those_specialists_that_name_them() -> None:
    class Served:
        async def tools(self, session: SessionInfo) -> list[Tool]:
            return [poem, ledger]

    some = (Specialist("a", "a", "You a.", served=frozenset({"ledger"})), Specialist("b", "b", "You b."))
    for name, there in (("a", ["ledger"]), ("b", [])):
        stage = Stage(Team(some), Told(["Hi."]))
        services = replace(stage.executor.services, tools=Served())
        stage.executor.services = services
        stage.job.kept = {"team": name}
        await stage.play()
        assert [spec.name for spec in stage.model.requests[0].tools] == ["hand_over", "delegate", *there]


async def test_who_is_handed_the_conversation_sees_all_of_it() -> None:
    def script(request: ModelRequest, who: str) -> Any:
        return asks("hand_over", to="poet", why="verse") if who == "talker" else "A rhyme."

    stage, result = await played(script, kept={"team": "talker"}, history=past("before", "yes"))

    assert (result.text, (result.kept or {})["team"]) == ("A rhyme.", "poet")
    assert [item.text for item in stage.model.requests[1].messages] == [
        "before",
        "yes",
        "hi",
        "",
        "poet has the conversation now",
    ]
    assert [frame["value"] for frame in stage.frames if frame["type"] == "state"] == ["poet"]


async def test_who_is_delegated_to_sees_the_task_alone_and_works_in_a_run_of_its_own() -> None:
    def script(request: ModelRequest, who: str) -> Any:
        last = request.messages[-1]
        if who == "talker":
            return asks("delegate", to="banker", task="How much?") if last.role == "user" else f"So: {last.text}"
        return asks("ledger", account="a1") if last.role == "user" else f"Answer {last.text}"

    stage, result = await played(script, kept={"team": "talker"}, history=past("before", "yes"))

    assert (result.text, (result.kept or {})["team"]) == ("So: Answer a1: 5", "talker")
    banker = [request for request in stage.model.requests if request.system == "You know money."]
    assert [item.text for item in banker[0].messages] == ["How much?"]
    assert [spec.name for spec in banker[0].tools] == ["ledger"]
    assert [frame["text"] for frame in stage.frames if frame["type"] == "delta" and "run" in frame] == ["Answer a1: 5"]
    replay, again = await played(
        lambda request, who: "never",
        kept={"team": "talker"},
        history=past("before", "yes"),
        attempt=2,
        steps=stage.link.steps,
    )
    assert (again.text, replay.model.requests) == (result.text, [])


async def test_a_conversation_that_is_handed_round_ends() -> None:
    def script(request: ModelRequest, who: str) -> Any:
        if "hand_over" not in [spec.name for spec in request.tools]:
            return f"{who} it is"
        return asks("hand_over", to="poet" if who == "talker" else "talker", why="no")

    stage, result = await played(script, kept={"team": "talker"})

    assert result.text == "talker it is"
    assert len(stage.model.requests) == 5


@pytest.mark.parametrize("to", ["nobody", "talker", None])
async def test_somebody_who_is_not_there_is_told(to: str | None) -> None:
    def script(request: ModelRequest, who: str) -> Any:
        last = request.messages[-1]
        return asks("delegate", to=to, task="x") if last.role == "user" else last.text

    _, result = await played(script, kept={"team": "talker"})
    assert result.text == "`to` must be one of: banker, poet"


def test_a_team_that_cannot_work_is_refused() -> None:
    for specialists, says in (
        ((), "at least one"),
        ((TEAM[0], TEAM[0]), "the same name"),
    ):
        with pytest.raises(RegistrationError, match=says):
            team(specialists, name="t", version="1")
    with pytest.raises(RegistrationError, match="give 1-64 characters"):
        Specialist("a b", "", "")
