"""One suite for all models: the adapters, spoken to by the scripted server over a socket in their providers' formats,
and the twin in memory. Bedrock has threads and a binary format of its own: tests/integration/test_bedrock.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, Protocol, cast

import pytest

from loadtest.model_server import Model as Server
from loadtest.script import Answer, Rule, Rules, answer_text, token
from loadtest.script import Script as ServerScript
from loadtest.wheel import Wheel
from schemas.errors import RetryableError, TerminalError
from schemas.history import said
from schemas.settings import ModelSettings
from tests.support.dialects import AnthropicTape, DialectServer, GeminiTape
from workers.models.anthropic import anthropic_model
from workers.models.google import google_model
from workers.models.openai_compatible import OpenAICompatibleModel
from workers.models.port import (
    Model,
    ModelChunk,
    ModelDone,
    ModelRateLimited,
    ModelRefused,
    ModelRequest,
    ModelTimedOut,
    ModelUnavailable,
    Timeouts,
)
from workers.models.scripted import Script, ScriptedModel

COALESCE_S = 0.05
ERRORS: dict[int, RetryableError | TerminalError] = {
    429: ModelRateLimited("by script", after_s=3.0),
    400: ModelRefused("by script", status=400),
    503: ModelUnavailable("by script"),
}


class World(Protocol):
    """A model, what it answers with, and what its provider's side saw. `prefix`: of the models' names."""

    prefix: str

    @property
    def model(self) -> Model: ...

    def script(self, answer: Answer) -> None: ...
    def working(self) -> int: ...
    def given(self) -> list[int]: ...
    def overlaps(self) -> list[tuple[str, str]]: ...


class SocketWorld:
    """An adapter before the scripted server. A routed one has the provider in its models' names."""

    def __init__(self, server: Server, model: Model, prefix: str = "") -> None:
        self.server = server
        self.model = model
        self.prefix = prefix

    def script(self, answer: Answer) -> None:
        ruled = answer.model_dump(exclude_unset=True)
        self.server.script = ServerScript(Rules(rules=(Rule(answer=ruled),)))

    def working(self) -> int:
        return self.server.stats.in_flight

    def given(self) -> list[int]:
        """Tokens of the answers that were closed early."""
        return [early.tokens_sent for early in self.server.stats.early]

    def overlaps(self) -> list[tuple[str, str]]:
        return [(overlap.other_turn, overlap.turn) for overlap in self.server.stats.overlaps]


class MemoryWorld:
    """The twin."""

    prefix = ""

    def __init__(self) -> None:
        self.answer = Answer()
        self.memory = ScriptedModel(lambda request: as_script(self.answer), coalesce_s=COALESCE_S)
        self.model: Model = self.memory

    def script(self, answer: Answer) -> None:
        self.answer = answer

    def working(self) -> int:
        return self.memory.in_flight

    def given(self) -> list[int]:
        return [call.given for call in self.memory.calls if not call.whole]

    def overlaps(self) -> list[tuple[str, str]]:
        return [(one.request.turn, other.request.turn) for one, other in self.memory.overlaps]


def as_script(answer: Answer) -> Script:
    return Script(
        tokens=tuple(token(answer.start + number) for number in range(answer.tokens)),
        first_s=answer.first_ms / 1000,
        pace_s=1 / answer.rate if answer.rate else 0.0,
        finish="length" if answer.finish == "length" else "stop",
        cut_after=answer.cut_after,
        error=ERRORS.get(answer.status),
    )


def adapter(name: str, port: int) -> Model:
    where = f"http://127.0.0.1:{port}"
    common: dict[str, Any] = {"model": "m", "model_coalesce_ms": round(COALESCE_S * 1000)}
    if name == "anthropic":
        return anthropic_model(ModelSettings(anthropic_key="k", anthropic_url=where, **common))
    if name == "google":
        return google_model(ModelSettings(google_key="k", google_url=where, **common))
    return OpenAICompatibleModel(ModelSettings(model_url=f"{where}/v1", **common))


def server_of(name: str) -> Server:
    loop = asyncio.get_running_loop()
    script, wheel = ServerScript(Rules()), Wheel(loop, tick_s=0.002)
    if name == "openai":
        return Server(loop, script, wheel)
    return DialectServer(loop, script, wheel, tape=AnthropicTape() if name == "anthropic" else GeminiTape())


@pytest.fixture(params=["openai", "anthropic", "google", "memory"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "memory":
        yield MemoryWorld()
        return
    server = server_of(request.param)
    listener = await server.serve("127.0.0.1", 0)
    prefix = "" if request.param == "openai" else f"{request.param}:"
    world = SocketWorld(server, adapter(request.param, listener.sockets[0].getsockname()[1]), prefix)
    yield world
    await world.model.close()
    listener.close()
    await listener.wait_closed()


def request(session: str = "s", turn: str = "t", **limits: Any) -> ModelRequest:
    messages = (said(item=f"{turn}~0", turn=turn, role="user", text="hi", at_ms=0),)
    return ModelRequest(session=session, turn=turn, messages=messages, timeouts=Timeouts(**limits))


def addressed(world: World, asked: ModelRequest, model: str = "m") -> ModelRequest:
    """To a model of the world's provider."""
    return replace(asked, model=world.prefix + (asked.model or model))


async def whole(world: World, asked: ModelRequest) -> tuple[list[ModelChunk], ModelDone]:
    chunks: list[ModelChunk] = []
    async with world.model.stream(addressed(world, asked)) as pieces:
        async for piece in pieces:
            if isinstance(piece, ModelDone):
                assert [rest async for rest in pieces] == []
                return chunks, piece
            chunks.append(piece)
    raise AssertionError("a stream ended without an end")


async def read_into(texts: list[str], world: World, asked: ModelRequest) -> None:
    """Each piece's text as it comes; the end has none."""
    async with world.model.stream(addressed(world, asked)) as pieces:
        async for piece in pieces:
            texts.append(piece.text if isinstance(piece, ModelChunk) else "")


async def idle(world: World, within_s: float = 0.2) -> None:
    """The provider's side has seen that nobody listens any more."""
    async with asyncio.timeout(within_s):
        while world.working():
            await asyncio.sleep(0.005)


async def test_the_answer_names_the_model_that_was_asked(world: World) -> None:
    world.script(Answer(tokens=2, first_ms=0))
    _, done = await whole(world, replace(request(), model="another"))
    assert done.usage is not None
    assert (done.model, done.usage.model) == (f"{world.prefix}another", f"{world.prefix}another")


async def test_an_answer_is_whole_and_ends_once_with_its_usage(world: World) -> None:
    world.script(Answer(tokens=40, rate=2000, first_ms=1))
    chunks, done = await whole(world, request())
    assert "".join(chunk.text for chunk in chunks) == answer_text(40)
    assert (done.finish, done.calls) == ("stop", ())
    assert done.usage is not None
    assert done.usage.output_tokens == 40
    assert world.working() == 0


async def test_the_finish_is_told(world: World) -> None:
    world.script(Answer(tokens=2, first_ms=0, finish="length"))
    _, done = await whole(world, request())
    assert done.finish == "length"


async def test_an_answer_of_nothing_is_an_answer(world: World) -> None:
    world.script(Answer(tokens=0, first_ms=0))
    assert (await whole(world, request()))[0] == []


async def test_the_first_token_is_not_held_back(world: World) -> None:
    world.script(Answer(tokens=3, rate=100, first_ms=0))
    clock, waits = asyncio.get_running_loop().time, []
    for _ in range(6):
        began_s = clock()
        async with world.model.stream(addressed(world, request())) as pieces:
            await anext(pieces)
            waits.append(clock() - began_s)
    assert min(waits) < COALESCE_S * 0.8


async def test_later_tokens_are_joined(world: World) -> None:
    world.script(Answer(tokens=60, rate=200, first_ms=20))
    clock = asyncio.get_running_loop().time
    moments, sizes = [], []
    async with world.model.stream(addressed(world, request())) as pieces:
        async for piece in pieces:
            moments.append(clock())
            sizes.append(len(piece.text.split()) if isinstance(piece, ModelChunk) else 0)
    assert sizes[0] <= 4
    assert sum(sizes) == 60
    assert 4 <= len(sizes) <= 12
    assert min(later - earlier for earlier, later in pairwise(moments[:-2])) >= COALESCE_S * 0.8


@pytest.mark.parametrize(("status", "kind"), [(429, ModelRateLimited), (503, ModelUnavailable), (400, ModelRefused)])
async def test_a_failure_is_typed_before_any_piece(world: World, status: int, kind: type[Exception]) -> None:
    world.script(Answer(status=status, retry_after_s=3.0 if status == 429 else None))
    with pytest.raises(kind) as caught:
        await whole(world, request())
    assert getattr(caught.value, "after_s", None) == (3.0 if status == 429 else None)
    await idle(world)
    world.script(Answer(tokens=3, first_ms=0))
    assert (await whole(world, request()))[1].finish == "stop"


async def test_a_cut_midway_is_typed_after_what_was_said(world: World) -> None:
    world.script(Answer(tokens=20, rate=0, first_ms=0, cut_after=7))
    texts: list[str] = []
    with pytest.raises(ModelUnavailable) as cut:
        await read_into(texts, world, request())
    assert "".join(texts) == answer_text(7)
    told = cut.value.usage
    if world.prefix == "anthropic:":  # it tells what it read at the start, the others at the end
        assert told is not None
        assert (told.provider, told.input_tokens, told.cached_input_tokens) == ("anthropic", 12, 5)
    else:
        assert told is None


async def test_leaving_early_ends_the_providers_work_at_once(world: World) -> None:
    world.script(Answer(tokens=100_000, rate=500, first_ms=0))
    async with world.model.stream(addressed(world, request())) as pieces:
        async for _ in pieces:
            break
        assert world.working() == 1
    await idle(world)
    assert len(world.given()) == 1


@pytest.mark.parametrize("after_s", [0.02, 0.13, 0.15, 0.18], ids=str)
async def test_cancelling_ends_the_providers_work_wherever_it_is(world: World, after_s: float) -> None:
    world.script(Answer(tokens=100_000, rate=200, first_ms=100))
    task = asyncio.create_task(whole(world, request()))
    await asyncio.sleep(after_s)
    assert world.working() == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await idle(world)


async def test_an_error_of_the_reader_ends_the_providers_work(world: World) -> None:
    world.script(Answer(tokens=100_000, rate=200, first_ms=0))
    with pytest.raises(AttributeError):
        await read_into(cast(list[str], None), world, request())
    await idle(world)


@pytest.mark.parametrize(
    ("limits", "answer"),
    [
        ({"first_token_s": 0.1}, Answer(first_ms=60_000)),
        ({"idle_s": 0.15}, Answer(tokens=2, first_ms=0, rate=0.01)),
        ({"total_s": 0.2}, Answer(tokens=100_000, first_ms=0, rate=200)),
    ],
    ids=["first", "idle", "total"],
)
async def test_a_model_that_is_too_slow_is_given_up(world: World, limits: dict[str, Any], answer: Answer) -> None:
    world.script(answer)
    async with asyncio.timeout(1.0):
        with pytest.raises(ModelTimedOut) as caught:
            await whole(world, request(**limits))
    assert {f"{caught.value.limit}_s"} == set(limits)
    assert f"time-out: {caught.value.limit}" in str(caught.value)
    await idle(world)


async def test_many_streams_at_once_are_each_whole(world: World) -> None:
    world.script(Answer(tokens=40, rate=400, first_ms=5))
    answers = await asyncio.gather(*(whole(world, request(f"s{number}")) for number in range(100)))
    assert ["".join(chunk.text for chunk in chunks) for chunks, _ in answers] == [answer_text(40)] * 100
    assert (world.working(), world.overlaps()) == (0, [])


async def test_two_turns_of_one_session_at_once_are_noticed_by_the_other_side(world: World) -> None:
    world.script(Answer(tokens=40, rate=200, first_ms=0))
    first = asyncio.create_task(whole(world, request(turn="t1")))
    await asyncio.sleep(0.03)
    await asyncio.gather(first, whole(world, request(turn="t2")))
    assert world.overlaps() == [("t1", "t2")]


async def test_closing_twice_is_harmless(world: World) -> None:
    await whole(world, request())
    await world.model.close()
    await world.model.close()
