"""OneAgent by scripted transcripts: acts, plans, delegates, keeps files, and ends usefully at every bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from schemas.frames import Usage
from schemas.history import HistoryItem, ToolCall
from schemas.turn import TurnInput
from tests.support.stage import Stage, Told
from workers.agents.one.agent import One
from workers.agents.one.loop import Bounds
from workers.models.port import ModelDone
from workers.result import Result
from workers.tools.tool import Tool, tool

CALLS: list[str] = []


class Tooled(One):
    """As it is registered with tools of its own."""

    def __init__(self, tools: Sequence[Tool] = (), **more: Any) -> None:
        super().__init__(**more)
        self.tools = tuple(tools)


@pytest.fixture(autouse=True)
def _nothing_was_called() -> None:
    CALLS.clear()


@tool(read_only=True)
def weather(city: str) -> str:
    """The weather."""
    CALLS.append(city)
    return f"sun in {city}"


def asks(*calls: tuple[str, dict[str, Any]], text: str = "", tokens: int = 5) -> list[Any]:
    """What a model says that asks for tools."""
    made = tuple(ToolCall(call="x", name=name, arguments=given) for name, given in calls)
    done = ModelDone(calls=made, usage=Usage(model="told", input_tokens=tokens, output_tokens=1))
    return [text, done] if text else [done]


async def played(
    agent: One, *scripts: list[Any], kept: dict[str, Any] | None = None, **more: Any
) -> tuple[Stage, Result]:
    stage = Stage(agent, Told(*scripts), **more)
    stage.job.kept = kept or {}
    stage.job.tools = getattr(agent, "tools", ())
    return stage, await stage.play()


def without_tokens(kept: Any) -> dict[str, Any]:
    """What a session keeps but for what its provider counted."""
    return {name: value for name, value in kept.items() if name != "tokens"}


async def test_it_answers_a_question_without_tools() -> None:
    stage, result = await played(Tooled(tools=[weather]), ["Hello!"])

    assert (result.outcome, result.text, result.finish) == ("completed", "Hello!", "stop")
    assert without_tokens(result.kept) == {"plan": None}
    (request,) = stage.model.requests
    assert [spec.name for spec in request.tools] == [
        "write_todos",
        "ls",
        "read",
        "write",
        "edit",
        "grep",
        "task",
        "weather",
    ]


async def test_calls_of_one_answer_are_made_side_by_side_and_their_results_go_back_in_order() -> None:
    stage, result = await played(
        Tooled(tools=[weather]),
        asks(("weather", {"city": "Oslo"}), ("nothing", {}), ("weather", {"city": "Rome"}), text="Looking."),
        ["Sunny in both."],
    )

    assert result.text == "Looking.Sunny in both."
    assert CALLS == ["Oslo", "Rome"]
    assert [(item.role, item.text) for item in stage.model.requests[1].messages[-4:]] == [
        ("assistant", "Looking."),
        ("tool", "sun in Oslo"),
        ("tool", "there is no tool 'nothing'; there are: weather"),
        ("tool", "sun in Rome"),
    ]
    assert paired(result.history)


async def test_the_plan_is_shown_as_it_changes_and_kept_for_the_next_turn() -> None:
    todos = [{"text": "look", "status": "in_progress"}, {"text": "tell"}]
    stage, result = await played(One(), asks(("write_todos", {"todos": todos})), ["Later."])

    kept = [{"text": "look", "status": "in_progress"}, {"text": "tell", "status": "pending"}]
    assert [frame["value"] for frame in stage.frames if frame["type"] == "state"] == [kept]
    assert without_tokens(result.kept) == {"plan": kept}


async def test_a_plan_of_ten_thousand_items_is_refused_and_the_turn_goes_on() -> None:
    todos = [{"text": "x"}] * 10_000
    stage, result = await played(One(), asks(("write_todos", {"todos": todos})), ["Then not."])

    assert result.text == "Then not."
    assert "at most 50 items" in stage.model.requests[1].messages[-1].text


async def test_files_stay_from_turn_to_turn_and_paths_stay_inside() -> None:
    agent = One()
    _, first = await played(agent, asks(("write", {"path": "a/b.md", "content": "one\ntwo"})), ["Written."])
    assert without_tokens(first.kept) == {"plan": None, "file:a/b.md": "one\ntwo"}

    stage, second = await played(
        agent,
        asks(
            ("read", {"path": "a/b.md"}),
            ("edit", {"path": "a/b.md", "old": "two", "new": "three"}),
            ("grep", {"text": "three"}),
            ("read", {"path": "../etc/passwd"}),
            ("write", {"path": "a/../../b", "content": ""}),
            ("ls", {}),
        ),
        ["Done."],
        kept=without_tokens(first.kept),
    )
    told = [item.text for item in stage.model.requests[1].messages if item.role == "tool"]
    assert told[:3] == ["1\tone\n2\ttwo", "a/b.md is changed in 1 place", "a/b.md:2: three"]
    assert all("is no path here" in text for text in told[3:5])
    assert told[5] == "a/b.md (9 characters)"
    assert without_tokens(second.kept) == {"plan": None, "file:a/b.md": "one\nthree"}


async def test_helpers_work_side_by_side_in_contexts_of_their_own_and_their_files_are_taken_over() -> None:
    def script(request: Any) -> list[Any]:
        first = request.messages[0].text
        if first == "hi":
            return (
                asks(("task", {"title": "A", "prompt": "do A"}), ("task", {"title": "B", "prompt": "do B"}))
                if len(request.messages) == 1
                else ["Both done."]
            )
        if len(request.messages) == 1:
            return asks(("write", {"path": f"{first[-1]}.txt", "content": first}))
        return [f"I did {first[-1]}"]

    stage, result = await by(One(), script)

    assert result.text == "Both done."
    assert without_tokens(result.kept) == {"plan": None, "file:A.txt": "do A", "file:B.txt": "do B"}
    assert [item.text for item in stage.model.requests[-1].messages[-2:]] == ["I did A", "I did B"]
    runs = {frame["run"]: frame["parent_call"] for frame in stage.frames if frame["type"] == "delta" and "run" in frame}
    assert len(runs) == 2
    assert set(runs.values()) == {
        frame["call"] for frame in stage.frames if frame["type"] == "tool_call" and frame["name"] == "task"
    }
    assert stage.shown.endswith("Both done.")

    again = Stage(One(), Told(["Never"]), attempt=2, steps=stage.link.steps)
    replayed = await again.play()
    assert (replayed.text, replayed.kept, replayed.history) == (result.text, result.kept, result.history)
    assert again.model.requests == []


async def by(agent: One, script: Any) -> tuple[Stage, Result]:
    """Played by a function of the request."""

    class Answering(Told):
        def stream(self, request: Any) -> Any:
            self.requests.append(request)
            return self._stream(script(request))

    stage = Stage(agent, Answering([]))
    stage.job.tools = getattr(agent, "tools", ())
    return stage, await stage.play()


async def test_a_helper_that_calls_itself_is_told_that_it_cannot() -> None:
    def script(request: Any) -> list[Any]:
        if request.messages[0].text == "hi":
            return asks(("task", {"title": "A", "prompt": "go"})) if len(request.messages) == 1 else ["Done."]
        if len(request.messages) == 1:
            assert "task" not in [spec.name for spec in request.tools]
            return asks(("task", {"title": "A", "prompt": "go"}))
        return [request.messages[-1].text]

    stage, result = await by(Tooled(tools=[weather]), script)

    assert result.text == "Done."
    assert stage.model.requests[-1].messages[-1].text == "there is no tool 'task'; there are: weather"


@pytest.mark.parametrize(
    ("bounds", "why"),
    [
        (Bounds(steps=3), "the limit of 3 model calls"),
        (Bounds(tokens=10), "the limit of 10 tokens"),
        (Bounds(reserve_s=3_600), "the end of the time"),
        (Bounds(repeats=1), "the same call over and over"),
    ],
)
async def test_at_a_bound_the_model_is_told_to_answer_now(bounds: Bounds, why: str) -> None:
    def script(request: Any) -> list[Any]:
        return (
            ["Best I have."]
            if "[This is the last step" in request.messages[-1].text
            else asks(("weather", {"city": "Oslo"}))
        )

    stage, result = await by(Tooled(tools=[weather], bounds=bounds), script)

    assert why in stage.model.requests[-1].messages[-1].text
    assert (result.outcome, result.text, result.finish) == ("completed", "Best I have.", "limit")
    assert paired(result.history)


async def test_a_model_that_goes_on_calling_at_the_bound_ends_the_turn_with_a_useful_answer() -> None:
    plan = asks(("write_todos", {"todos": [{"text": "look"}, {"text": "tell"}]}))
    _, result = await played(Tooled(tools=[weather], bounds=Bounds(steps=2)), plan, plan)

    assert (result.outcome, result.finish) == ("completed", "limit")
    assert result.text == (
        "I could not answer: this turn came to the limit of 2 model calls for one turn. Not done: look; tell."
    )
    assert paired(result.history)


async def test_the_same_call_is_not_made_over_and_over() -> None:
    same = asks(("weather", {"city": "Oslo"}))
    stage, result = await played(Tooled(tools=[weather]), same, same, same, same, ["Enough."])

    assert (result.text, CALLS) == ("Enough.", ["Oslo"] * 3)
    assert "you have called it with these same arguments 3 times" in stage.model.requests[-1].messages[-1].text


async def test_an_empty_answer_is_asked_for_once_more() -> None:
    _, result = await played(One(), [ModelDone()], ["Here."])
    assert result.text == "Here."
    _, result = await played(One(), [ModelDone()], [ModelDone()])
    assert result.text == "I could not answer: this turn came to a model that says nothing."


async def test_malformed_arguments_are_fed_back() -> None:
    bad = [ModelDone(calls=(ToolCall(call="x", name="weather", arguments_text="{city"),))]
    worse = [ModelDone(calls=(ToolCall(call="x", name="write", arguments_text="["),))]
    stage, result = await played(Tooled(tools=[weather]), bad, worse, ["Sorry."])

    assert result.text == "Sorry."
    assert "are no JSON object" in stage.model.requests[1].messages[-1].text
    assert "are no JSON object" in stage.model.requests[2].messages[-1].text
    assert [frame.get("arguments_text") for frame in stage.frames if frame["type"] == "tool_call"] == ["{city", "["]


async def test_what_the_turn_allows_narrows_what_there_is() -> None:
    other: Tool = tool(name="other", read_only=True)(lambda: "x")
    stage, _ = await played(Tooled(tools=[weather, other]), ["Hi"], given=TurnInput(text="hi", tools=("other",)))

    assert [spec.name for spec in stage.model.requests[0].tools][-1] == "other"
    assert "weather" not in [spec.name for spec in stage.model.requests[0].tools]


def paired(items: tuple[HistoryItem, ...]) -> bool:
    """Every call has its result right behind the message, in order; nothing is empty."""
    left: list[str] = []
    for item in items:
        if item.role == "tool":
            assert left and left.pop(0) == item.call
        else:
            assert not left
            assert item.parts or item.calls
            left = [call.call for call in item.calls]
    return not left


async def test_a_model_that_takes_no_tools_is_asked_without_them_and_its_user_is_told() -> None:
    stage, result = await played(
        Tooled(tools=[weather], model="smollm2"), asks(("weather", {"city": "Oslo"})), ["Sun."]
    )

    first = stage.model.requests[0]
    assert first.tools == ()
    assert "You have no tools here" in first.system
    assert (result.text, CALLS) == ("Sun.", [])
    assert [frame["name"] for frame in stage.frames if frame["type"] == "state"] == ["notice"]
    assert paired(result.history)


async def test_a_last_answer_for_want_of_time_is_the_last_one_in_every_attempt() -> None:
    script = asks(("weather", {"city": "Oslo"}), text="It is late.")
    agent = Tooled(tools=[weather], bounds=Bounds(reserve_s=3_600))
    first, result = await played(agent, script)
    again, same = await played(agent, ["never"], attempt=2, steps=first.link.steps, deadline_s=86_400.0)

    assert (result.text, result.finish, CALLS) == ("It is late.", "limit", [])
    assert (same.text, same.finish, again.model.requests) == ("It is late.", "limit", [])
