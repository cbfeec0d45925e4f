"""A tool asks its user while it is called: shown, answered, withdrawn; one at a time, and none outlives its call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from schemas.entries import ControlNote, Step
from schemas.history import ToolCall
from tests.support.stage import NOON_MS, Stage, settle
from workers.agent import AgentTurn
from workers.context import Context
from workers.executor import RunningTurn
from workers.tools.calling import call_all
from workers.tools.exchange import EXCHANGE, QUESTIONS, Answer, Question
from workers.tools.tool import Tool, ToolOutput, ToolPolicy
from workers.tools.toolbox import Toolbox

SIZE: dict[str, Any] = {"type": "object", "properties": {"size": {"type": "string"}}, "required": ["size"]}
Ask = Callable[[Question], Awaitable[Answer]]
Work = Callable[[Ask], Awaitable[str]]


class Scene:
    """An agent that calls a tool `book`, as often as told, side by side. `asks`: what may be answered."""

    def __init__(self, work: Work, *, calls: int = 1, timeout_s: float = 5.0, asks: bool = True) -> None:
        self.heard: list[Any] = []

        async def call(given: Any, *, idempotency_key: str | None = None) -> ToolOutput:
            ask = EXCHANGE.get().ask
            assert ask is not None
            return ToolOutput.said(await work(ask))

        async def agent(turn: AgentTurn, ctx: Context) -> str:
            toolbox = Toolbox([Tool("book", "", {}, call, ToolPolicy(timeout_s=timeout_s))], ctx.info)
            made = await call_all(
                ctx, toolbox, [ToolCall(call=f"c{n}", name="book", arguments={}) for n in range(calls)]
            )
            return "|".join(getattr(item.parts[0], "text", "") for item in made)

        self.stage = Stage(agent)
        self.stage.link.asks = {} if asks else None
        self.running: RunningTurn | None = None

    async def start(self) -> None:
        self.running = self.stage.start()
        await settle()

    def frames(self, kind: str) -> list[dict[str, Any]]:
        return [frame for frame in self.stage.frames if frame["type"] == f"approval_{kind}"]

    @property
    def decided(self) -> list[tuple[str, str, str]]:
        return [(frame["call"], frame["decision"], frame["by"]) for frame in self.frames("decided")]

    async def decide(self, call: str, *, allow: bool = True, **value: Any) -> None:
        """Its session has written it down."""
        assert self.running is not None
        kind: Any = "approve" if allow else "deny"
        given: dict[str, Any] = {"at_ms": NOON_MS, "op": "o", "turn": "t1", "tenant": "default", "user": "ann"}
        self.running.decided(ControlNote(kind=kind, call=call, by="ann", value=value or None, **given))
        await settle()

    async def text(self) -> str:
        async with asyncio.timeout(5):
            while not self.stage.results:
                await asyncio.sleep(0.001)
        (result,) = self.stage.results
        assert result.outcome == "completed", result.message
        return result.text


async def once(ask: Ask) -> str:
    said = await ask(Question("Which size?", SIZE))
    return f"{said.allowed} {said.content}"


async def test_it_is_shown_with_what_is_left_of_the_call_and_the_answer_reaches_the_call() -> None:
    scene = Scene(once, timeout_s=20.0)
    await scene.start()
    (asked,) = scene.frames("requested")
    assert (asked["call"], asked["kind"], asked["message"], asked["schema"]) == (
        "c0.a1.1",
        "question",
        "Which size?",
        SIZE,
    )
    assert NOON_MS + 18_900 < asked["expires_ms"] <= NOON_MS + 19_000  # a second is left to the call
    assert "name" not in asked
    await scene.decide("c0.a1.1", answer={"size": "S", "note": None})
    assert await scene.text() == "True {'size': 'S'}"
    assert scene.decided == [("c0.a1.1", "allow", "ann")]
    assert [step.kind for step in scene.stage.link.steps] == ["tool"]  # nothing of the question is a step


async def test_denied_is_declined() -> None:
    scene = Scene(once)
    await scene.start()
    await scene.decide("c0.a1.1", allow=False)
    assert await scene.text() == "False None"
    assert scene.decided == [("c0.a1.1", "deny", "ann")]


async def test_the_turns_own_deadline_comes_first() -> None:
    scene = Scene(once, timeout_s=500.0)
    await scene.start()
    assert scene.frames("requested")[0]["expires_ms"] == NOON_MS + 60_000
    assert scene.running is not None
    scene.running.stop("user")
    await settle()


async def test_nobody_answers_so_it_is_declined_before_the_calls_time_is_over() -> None:
    scene = Scene(once, timeout_s=0.2)
    await scene.start()
    assert await scene.text() == "False None"
    assert scene.decided == [("c0.a1.1", "deny", "deadline")]
    assert scene.stage.link.asks == {}


async def test_a_decision_that_is_being_written_when_the_time_is_over_counts() -> None:
    scene = Scene(once, timeout_s=0.2)
    await scene.start()
    scene.stage.link.writes = True
    await asyncio.sleep(0.19)
    assert scene.decided == []
    await scene.decide("c0.a1.1", answer={"size": "L"})
    assert await scene.text() == "True {'size': 'L'}"
    assert scene.decided == [("c0.a1.1", "allow", "ann")]


async def test_with_nobody_to_ask_nothing_is_shown() -> None:
    scene = Scene(once, asks=False)
    await scene.start()
    assert await scene.text() == "False None"
    assert scene.frames("requested") == scene.frames("decided") == []


@pytest.mark.parametrize("how", ["cancel", "lost"])
async def test_it_is_declined_to_the_server_when_the_turn_is_stopped_or_lost(how: str) -> None:
    told: list[Answer] = []
    asking: list[asyncio.Task[None]] = []

    async def work(ask: Ask) -> str:
        async def of_the_server() -> None:
            told.append(await ask(Question("?")))

        asking.append(asyncio.create_task(of_the_server()))
        await asyncio.sleep(60)
        return ""

    scene = Scene(work)
    await scene.start()
    assert scene.running is not None and len(scene.frames("requested")) == 1
    if how == "cancel":
        scene.running.stop("user")
    else:
        scene.running.abandon()
    await settle()
    assert told == [Answer(allowed=False)]
    assert scene.stage.link.asks == {}
    assert scene.decided == ([("c0.a1.1", "deny", "withdrawn")] if how == "cancel" else [])


async def test_what_a_server_asks_after_its_call_is_declined() -> None:
    held: list[Ask] = []

    async def work(ask: Ask) -> str:
        held.append(ask)
        return "done"

    scene = Scene(work)
    await scene.start()
    assert await scene.text() == "done"
    assert await held[0](Question("?")) == Answer(allowed=False)
    assert scene.frames("requested") == []


async def test_a_server_that_takes_its_question_back_closes_it() -> None:
    async def work(ask: Ask) -> str:
        asking = asyncio.ensure_future(ask(Question("?")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait((asking,))
        return f"{asking.cancelled()}"

    scene = Scene(work)
    await scene.start()
    assert await scene.text() == "True"
    assert scene.decided == [("c0.a1.1", "deny", "withdrawn")]


async def test_two_questions_of_one_call_come_one_after_the_other() -> None:
    async def twice(ask: Ask) -> str:
        one, two = await asyncio.gather(ask(Question("1?")), ask(Question("2?")))
        return f"{one.content} {two.content}"

    scene = Scene(twice)
    await scene.start()
    assert [frame["message"] for frame in scene.frames("requested")] == ["1?"]
    await scene.decide("c0.a1.1", answer="one")
    assert [frame["message"] for frame in scene.frames("requested")] == ["1?", "2?"]
    await scene.decide("c0.a1.2", answer="two")
    assert await scene.text() == "one two"


async def test_two_calls_that_ask_are_asked_one_after_the_other_and_each_gets_its_own() -> None:
    scene = Scene(once, calls=2)
    await scene.start()
    assert [frame["call"] for frame in scene.frames("requested")] == ["c0.a1.1"]
    await scene.decide("c0.a1.1", answer={"size": "S"})
    assert [frame["call"] for frame in scene.frames("requested")] == ["c0.a1.1", "c1.a1.2"]
    await scene.decide("c1.a1.2", allow=False)
    assert await scene.text() == "True {'size': 'S'}|False None"


async def test_a_server_may_ask_so_often_and_so_much() -> None:
    async def work(ask: Ask) -> str:
        large = await ask(Question("x" * 70_000))
        said = [await ask(Question("?")) for _ in range(QUESTIONS)]
        return f"{large.allowed} {[one.allowed for one in said].count(True)}"

    scene = Scene(work)
    await scene.start()
    for n in range(1, QUESTIONS + 2):
        await scene.decide(f"c0.a1.{n}")
    assert await scene.text() == f"False {QUESTIONS - 1}"


async def test_whoever_comes_to_watch_is_asked_as_well() -> None:
    scene = Scene(once)
    await scene.start()
    assert scene.running is not None
    scene.running.show("watch", -1)
    assert [frame["call"] for frame in scene.frames("requested")] == ["c0.a1.1"] * 2
    await scene.decide("c0.a1.1")
    scene.running.show("watch", -1)
    assert len(scene.frames("requested")) == 2


async def test_a_worker_that_leaves_withdraws_it_and_the_call_goes_on_to_its_end() -> None:
    scene = Scene(once)
    await scene.start()
    assert scene.running is not None and not scene.running.at_boundary
    scene.running.withdraw()
    assert await scene.text() == "False None"
    assert scene.decided == [("c0.a1.1", "deny", "withdrawn")]
    assert isinstance(scene.stage.link.entries[-1], Step)


async def test_a_decision_on_what_is_over_reaches_nobody() -> None:
    scene = Scene(once)
    await scene.start()
    await scene.decide("c0.a1.7", answer="x")
    assert scene.stage.results == []
    await scene.decide("c0.a1.1", allow=False)
    assert await scene.text() == "False None"
