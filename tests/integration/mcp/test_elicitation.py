"""An older server asks while its calls run: whose question is it, and what becomes of it when it is nobody's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from schemas.parts import text_of
from tests.support.mcp_hosts import Hosted, hosted, hostile, served, session
from tests.support.mcp_scene import Scene
from workers.tools.exchange import EXCHANGE, Answer, Exchange, Question


@pytest.fixture
async def http() -> AsyncIterator[Hosted]:
    async with served() as at, hosted(it=at.config(era="2025-11-25")) as host:
        yield host


@pytest.fixture
async def stdio() -> AsyncIterator[Hosted]:
    async with hosted(it=hostile()) as host:
        yield host


class Person:
    """A user whose calls are answered by themselves."""

    def __init__(self, size: str = "S") -> None:
        self.asked: list[str] = []
        self._size = size

    async def answer(self, question: Question) -> Answer:
        self.asked.append(question.message)
        return Answer(allowed=True, content={"size": self._size})

    async def call(self, made: Hosted, name: str, **arguments: Any) -> str:
        token = EXCHANGE.set(Exchange(ask=self.answer))
        try:
            return text_of((await made.call(name, session("s"), **arguments)).parts)
        finally:
            EXCHANGE.reset(token)


async def left(made: Hosted, person: Person, name: str) -> None:
    """A call that is cancelled while it is in progress."""
    gone = asyncio.create_task(person.call(made, name))
    server = made.host.servers["it"]
    async with asyncio.timeout(20):
        while not any(lease._asking for lease in server._leases.values()):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    gone.cancel()
    await asyncio.wait((gone,))


async def test_a_turns_user_answers_a_server_over_stdio(stdio: Hosted) -> None:
    scene = Scene(stdio, "ask")
    (asked,) = await scene.asked()
    assert asked["message"] == "Sure?"
    scene.decide(asked["call"], answer={})
    assert '"accept"' in await scene.text()
    assert [frame["by"] for frame in scene.frames("approval_decided")] == ["ann"]


async def test_over_http_each_call_gets_its_own_question_and_its_own_answer(http: Hosted) -> None:
    await http.tools()
    ann, bob = Person("S"), Person("L")
    said = list(await asyncio.gather(ann.call(http, "order", what="hats"), bob.call(http, "order", what="shoes")))
    assert said == ["hats in S", "shoes in L"]
    assert (ann.asked, bob.asked) == (["Which size of hats?"], ["Which size of shoes?"])


async def test_over_stdio_nobody_is_asked_where_two_calls_share_the_connection(stdio: Hosted) -> None:
    await stdio.tools()
    ann, bob = Person(), Person()
    other = asyncio.create_task(bob.call(stdio, "never"))
    await asyncio.sleep(0.2)
    assert "decline" in await ann.call(stdio, "ask")
    assert (ann.asked, bob.asked) == ([], [])
    other.cancel()
    await asyncio.wait((other,))


async def test_a_question_of_a_call_that_is_over_is_not_put_before_the_next_user(stdio: Hosted) -> None:
    await stdio.tools()
    ann, bob = Person(), Person()
    await left(stdio, ann, "late_ask")
    assert await bob.call(stdio, "slow", s=0.1) == "slow"  # the question comes right behind, or meanwhile
    assert "works" in await bob.call(stdio, "good")
    assert (ann.asked, bob.asked) == ([], [])


async def test_a_connection_whose_questions_are_nobodys_is_made_anew_when_it_is_free(stdio: Hosted) -> None:
    ann, bob = Person(), Person()
    before = await ann.call(stdio, "pid")
    await left(stdio, ann, "never")
    assert await bob.call(stdio, "pid") == before  # it never asked
    assert "decline" in await bob.call(stdio, "ask")
    assert "accept" in await bob.call(stdio, "ask")
    assert await bob.call(stdio, "pid") != before
    assert stdio.outcomes("mcp_openings") == ["opened", "closed", "opened"]


async def test_a_server_that_keeps_state_is_not_made_anew_for_it() -> None:
    async with hosted(it=hostile(lease="session")) as made:
        ann = Person()
        await left(made, ann, "never")
        assert "decline" in await ann.call(made, "ask")
        assert "decline" in await ann.call(made, "ask")
        assert made.outcomes("mcp_openings") == ["opened"]


async def test_a_turn_that_is_cancelled_declines_over_stdio(stdio: Hosted) -> None:
    scene = Scene(stdio, "ask")
    await cancelled(scene)
    assert "works" in await Scene(stdio, "good").text()


async def test_a_turn_that_is_cancelled_declines_over_http(http: Hosted) -> None:
    scene = Scene(http, "order", what="hats")
    await cancelled(scene)
    assert "3" in await Scene(http, "add", a=1, b=2).text()


async def cancelled(scene: Scene) -> None:
    await scene.asked()
    scene.running.stop("user")
    async with asyncio.timeout(10):
        while not scene.stage.results:
            await asyncio.sleep(0.01)
    assert scene.stage.results[0].outcome == "cancelled"
    assert scene.stage.link.asks == {}


async def test_nobody_answers_so_the_server_hears_no_and_the_call_ends_with_its_word() -> None:
    async with served() as at, hosted(it=at.config(era="2025-11-25", others={"timeout_s": 1.0})) as made:
        scene = Scene(made, "order", what="hats")
        await scene.asked()
        assert "declin" in await scene.text()
        assert [frame["by"] for frame in scene.frames("approval_decided")] == ["deadline"]
        assert made.outcomes() == ["error"]


async def test_an_open_question_goes_with_its_server() -> None:
    async with hosted(it=hostile(others={"timeout_s": 30})) as made:
        scene = Scene(made, "ask")
        await scene.asked()
        await made.host.close()
        assert "whether it took effect is unknown" in await scene.text()
        assert [frame["by"] for frame in scene.frames("approval_decided")] == ["withdrawn"]
