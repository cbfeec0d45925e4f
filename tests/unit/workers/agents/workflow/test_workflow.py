"""Workflows: branches, parallel branches and maps, replayed from anywhere; graphs that cannot work are refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.stage import Stage, Told
from workers.agent import RegistrationError
from workers.agents.workflow.agent import GRAPH, Workflow, workflow
from workers.agents.workflow.nodes import Ask, Choose, Do, Each, Node, Parallel, Say, Seq
from workers.job import TurnLost
from workers.models.port import ModelRequest
from workers.result import Result

DONE: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_was_done() -> None:
    DONE.clear()


class Echoing(Told):
    """Says what it was asked, in capitals; slowly where the text says so."""

    def stream(self, request: ModelRequest) -> Any:
        self.requests.append(request)
        return self._stream([request.messages[-1].text.upper()])


def noting(name: str) -> Do:
    def work(values: Any) -> str:
        DONE.append(name)
        return f"{name}!"

    return Do(name, work)


async def played(graph: Node, model: Any = None, **more: Any) -> tuple[Stage, Result]:
    stage = Stage(Workflow(graph), model or Echoing(), **more)
    return stage, await stage.play()


async def test_a_value_decides_which_way_is_gone() -> None:
    graph = Seq(
        (
            Do("size", lambda values: "small" if len(str(values["input"])) < 3 else "large"),
            Choose("size", {"small": Say("small: {input}")}, otherwise=Say("large: {input}")),
        )
    )
    _, result = await played(graph)

    assert result.text == "small: hi"


async def test_parallel_branches_and_a_map_keep_their_order_and_their_steps() -> None:
    graph = Seq(
        (
            Parallel({"left": noting("a"), "right": Seq((noting("b"), Ask("said", "{b} {input}")))}),
            Do("items", lambda values: [values["a"], values["b"], "c"]),
            Each("many", "items", Ask("one", "<{item}>"), take="one", at_most=2),
            Say("{said} {many}"),
        )
    )
    stage, result = await played(graph)

    assert result.text == "B! HI <A!>\n<B!>\n<C>"
    assert sorted({(step.run, step.step) for step in stage.link.steps}) == [
        ("", 0),
        ("left", 0),
        ("many-0", 0),
        ("many-1", 0),
        ("many-2", 0),
        ("right", 0),
        ("right", 1),
    ]
    for kept in range(len(stage.link.steps) + 1):
        again, same = await played(graph, attempt=2, steps=stage.link.steps[:kept])
        assert same.text == result.text
        assert len(again.link.steps) + kept == len(stage.link.steps)


async def test_what_a_branch_writes_replaces_what_was_there() -> None:
    graph = Seq(
        (
            Do("x", lambda values: "old"),
            Parallel({"a": Do("x", lambda values: f"{values['x']} new"), "b": Do("y", lambda values: values["x"])}),
            Say("{x}, {y}"),
        )
    )
    stage, result = await played(graph)

    assert result.text == "old new, old"
    again, same = await played(graph, attempt=2, steps=stage.link.steps)
    assert (same.text, again.link.steps) == ("old new, old", [])


async def test_a_branch_that_fails_fails_the_turn_after_the_others_are_done() -> None:
    def breaks(values: Any) -> str:
        raise ZeroDivisionError

    _, result = await played(Parallel({"x": Do("x", breaks), "y": noting("y")}))

    assert (result.outcome, result.message, DONE) == ("failed", "step 'x' raised ZeroDivisionError", ["y"])


@pytest.mark.parametrize(("kind", "calls"), [("short", 2), ("long", 5)])
async def test_the_one_that_ships_answers_short_or_in_parts(kind: str, calls: int) -> None:
    def script(text: str) -> str:
        if text.startswith("Is this"):
            return kind.capitalize() + "."
        return "1. one\n2. two" if text.startswith("List") else f"[{text[-20:]}]"

    class Model(Told):
        def stream(self, request: ModelRequest) -> Any:
            self.requests.append(request)
            return self._stream([script(request.messages[-1].text)])

    stage, result = await played(GRAPH, Model())

    assert result.outcome == "completed"
    assert len(stage.model.requests) == calls
    assert result.text.startswith("[")


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        (Ask("a", "{nothing}"), "node a: no node before it writes 'nothing'; there are: input"),
        (Ask("a", "{"), "is no text with"),
        (Say("{later}"), "no node before it writes 'later'"),
        (Choose("kind", {}), "choose: no node before it writes 'kind'"),
        (Each("e", "items", noting("x"), take="x"), "no node before it writes 'items'"),
        (Each("e", "input", noting("x"), take="y"), "its node does not write 'y'"),
        (Each("e", "input", noting("x"), take="x", at_most=0), "at_most is 0"),
        (Parallel({"a": noting("x"), "b": noting("x")}), "two branches write 'x'"),
        (Seq((noting("x"), Parallel({"a": noting("x"), "b": noting("x")}))), "two branches write 'x'"),
        (
            Parallel({"a": Choose("input", {"hi": noting("x")}), "b": Seq((noting("x"),))}),
            "two branches write 'x'",
        ),
        (Seq((Parallel({"a": noting("x")}), Parallel({"a": noting("y")}))), "two branches are called 'a'"),
        (noting("a b"), "node 'a b': give 1-48 characters"),
    ],
)
def test_a_graph_that_cannot_work_is_refused_when_it_is_registered(graph: Node, says: str) -> None:
    with pytest.raises(RegistrationError) as error:
        workflow(graph, name="w", version="1")
    assert says in str(error.value)


async def test_a_value_that_only_one_way_writes_is_not_known_after_it() -> None:
    way = Choose("input", {"x": noting("a")}, otherwise=noting("b"))

    with pytest.raises(RegistrationError, match="no node before it writes 'a'"):
        Workflow(Seq((way, Say("{a}"))))


async def test_a_map_over_what_is_no_list_is_typed() -> None:
    _, result = await played(Each("e", "input", noting("x"), take="x"))

    assert (result.outcome, result.message) == ("failed", "each e: want a list of at most 256 in 'input'")


async def test_nothing_runs_on_after_the_session_is_lost() -> None:
    stage = Stage(Workflow(Seq((noting("a"), noting("b")))))
    stage.link.lost = True
    stage.start()
    await asyncio.sleep(0.01)

    assert stage.results == []
    assert DONE == ["a"]
    assert TurnLost is not None
