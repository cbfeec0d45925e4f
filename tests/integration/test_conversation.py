"""A conversation through lost connections and refusals, against a gateway that plays a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from fleet.answer import Piece
from fleet.asking import DENY, Asked
from fleet.conversation import Conversation
from fleet.exits import CommandError, Exit
from tests.support.ports import free_port

Frame = dict[str, Any]
Scene = Callable[["Stage"], Awaitable[None]]


class Stage:
    """One connection of the script, and everything that clients sent so far on all of them."""

    def __init__(self, connection: ServerConnection, heard: list[Frame]) -> None:
        self.connection = connection
        self.heard = heard

    async def hear(self) -> Frame:
        frame: Frame = json.loads(await self.connection.recv())
        self.heard.append(frame)
        return frame

    async def tell(self, kind: str, turn: str, seq: int, /, **more: Any) -> None:
        frame = {"type": kind, "session": "s", "turn": turn, "attempt": 1 if seq else 0, "seq": seq, "at_ms": 1}
        await self.connection.send(json.dumps({**frame, **more}))


@asynccontextmanager
async def gateway(*scenes: Scene) -> AsyncIterator[tuple[str, list[Frame]]]:
    """Plays one scene a connection; then what was heard."""
    heard: list[Frame] = []
    left = list(scenes)

    async def play(connection: ServerConnection) -> None:
        await connection.send(json.dumps({"type": "hello", "protocol": "turnfleet.v1"}))
        await left.pop(0)(Stage(connection, heard))

    async with serve(play, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"http://127.0.0.1:{port}", heard


async def answer(address: str, text: str = "hi") -> tuple[str, Frame]:
    """The screen after one turn, and how it ended."""
    conversation = Conversation(address, session="s", user="an n", patience_s=2.0)
    shown = ""
    try:
        async with asyncio.timeout(10):
            async for sight in conversation.ask(text):
                if isinstance(sight, Piece):
                    shown = sight.text if sight.anew else shown + sight.text
    finally:
        await conversation.close()
    return shown, conversation.end or {}


async def test_an_answer_streams() -> None:
    async def scene(stage: Stage) -> None:
        asked = await stage.hear()
        assert (asked["type"], asked["session"], asked["text"]) == ("turn", "s", "hi")
        assert stage.connection.request is not None
        assert stage.connection.request.path == "/v1/ws?user=an%20n"
        await stage.tell("accepted", asked["turn"], 0)
        await stage.tell("delta", asked["turn"], 1, text="hel")
        await stage.tell("delta", asked["turn"], 2, text="lo")
        await stage.tell("completed", asked["turn"], 3, text="hello")

    async with gateway(scene) as (address, _):
        shown, end = await answer(address)
    assert (shown, end["type"]) == ("hello", "completed")


async def test_a_lost_connection_is_attached_again_where_it_was() -> None:
    async def first(stage: Stage) -> None:
        turn = (await stage.hear())["turn"]
        await stage.tell("accepted", turn, 0)
        await stage.tell("delta", turn, 4, text="hel")
        await stage.connection.close(1012)

    async def second(stage: Stage) -> None:
        asked = await stage.hear()
        assert (asked["type"], asked["after"]) == ("attach", {"turn": asked["turn"], "attempt": 1, "seq": 4})
        turns = [{"turn": asked["turn"], "state": "running", "attempt": 1, "seq": 4, "step": -1, "text": "hel"}]
        await stage.connection.send(
            json.dumps({"type": "recovered", "verdict": "full", "session": "s", "turns": turns})
        )
        await stage.tell("completed", asked["turn"], 9, text="hello")

    async with gateway(first, second) as (address, _):
        assert (await answer(address))[0] == "hello"


async def test_a_turn_that_was_not_accepted_is_sent_again_with_its_id() -> None:
    async def first(stage: Stage) -> None:
        await stage.hear()
        await stage.connection.close(1001)

    async def second(stage: Stage) -> None:
        turn = (await stage.hear())["turn"]
        await stage.tell("completed", turn, 1, text="ok")

    async with gateway(first, second) as (address, heard):
        assert (await answer(address))[0] == "ok"
    assert heard[0] == heard[1]
    assert heard[0]["type"] == "turn"


async def test_an_ambiguous_publish_is_repeated_with_the_same_id_and_another_error_ends_the_turn() -> None:
    async def scene(stage: Stage) -> None:
        turn = (await stage.hear())["turn"]
        error = {"type": "error", "ref": turn, "turn": turn, "message": "m", "retry_after_ms": 1}
        await stage.connection.send(json.dumps({**error, "code": "publish_unknown", "retry": "same_turn"}))
        again = await stage.hear()
        assert again["turn"] == turn
        await stage.connection.send(json.dumps({**error, "code": "too_large", "retry": "no"}))

    async with gateway(scene) as (address, _):
        shown, end = await answer(address)
    assert (shown, end["code"]) == ("", "too_large")


async def test_a_breach_is_not_repeated() -> None:
    async def scene(stage: Stage) -> None:
        await stage.hear()
        await stage.connection.close(1009)

    async with gateway(scene) as (address, heard):
        with pytest.raises(CommandError, match="for good"):
            await answer(address)
    assert len(heard) == 1


async def test_a_cancel_names_the_running_turn() -> None:
    async def scene(stage: Stage) -> None:
        turn = (await stage.hear())["turn"]
        await stage.tell("delta", turn, 1, text="half")
        cancel = await stage.hear()
        assert (cancel["type"], cancel["turn"]) == ("cancel", turn)
        await stage.tell("cancelled", turn, 2, by="user", text="half")

    async with gateway(scene) as (address, _):
        conversation = Conversation(address, session="s", user="u")
        async for _ in conversation.ask("hi"):
            await conversation.cancel()
        await conversation.close()
    assert conversation.end is not None
    assert conversation.end["type"] == "cancelled"


async def test_a_cancel_while_the_connection_is_lost_is_sent_after_it_on_the_same_one() -> None:
    async def first(stage: Stage) -> None:
        turn = (await stage.hear())["turn"]
        await stage.tell("delta", turn, 1, text="half")
        await stage.connection.close(1012)

    async def second(stage: Stage) -> None:
        attached = await stage.hear()
        cancel = await stage.hear()
        assert (attached["type"], cancel["type"], cancel["turn"]) == ("attach", "cancel", attached["turn"])
        await stage.tell("cancelled", attached["turn"], 2, by="user", text="half")

    cancels: list[asyncio.Task[None]] = []
    async with gateway(first, second) as (address, _):
        conversation = Conversation(
            address,
            session="s",
            user="u",
            patience_s=2.0,
            note=lambda _: cancels.append(asyncio.create_task(conversation.cancel())),
        )
        async with asyncio.timeout(10):
            async for _ in conversation.ask("hi"):
                pass
        await conversation.close()
    assert conversation.end is not None
    assert (conversation.end["type"], len(cancels)) == ("cancelled", 1)


async def test_a_cancel_that_was_lost_with_the_connection_is_sent_again_under_the_same_op() -> None:
    async def first(stage: Stage) -> None:
        turn = (await stage.hear())["turn"]
        await stage.tell("delta", turn, 1, text="half")
        await stage.hear()
        await stage.connection.close(1012)

    async def second(stage: Stage) -> None:
        turn = (await stage.hear())["turn"]
        await stage.hear()
        await stage.tell("cancelled", turn, 2, by="user", text="half")

    async with gateway(first, second) as (address, heard):
        conversation = Conversation(address, session="s", user="u", patience_s=2.0)
        async with asyncio.timeout(10):
            async for _ in conversation.ask("hi"):
                await conversation.cancel()
        await conversation.close()
    assert [frame["type"] for frame in heard] == ["turn", "cancel", "attach", "cancel"]
    assert heard[1] == heard[3]


async def test_where_no_gateway_answers_one_sentence_says_what_to_do() -> None:
    with pytest.raises(CommandError, match="fleet up") as caught:
        await answer(f"http://127.0.0.1:{free_port()}")
    assert caught.value.code == Exit.UNREACHABLE


async def asked_then(address: str) -> tuple[str, list[str]]:
    """A turn whose decision is denied as soon as it is asked for: its end, and the calls that were asked for."""
    notes: list[str] = []
    calls: list[str] = []
    conversation = Conversation(address, session="s", user="u", patience_s=2.0, note=notes.append)
    try:
        async with asyncio.timeout(10):
            async for sight in conversation.ask("hi"):
                if isinstance(sight, Asked):
                    calls.append(sight.call)
                    await conversation.decide(sight, DENY)
    finally:
        await conversation.close()
    return str((conversation.end or {})["type"]), calls


ASKED = {"call": "c", "kind": "tool_call", "name": "pay", "arguments": {}, "expires_ms": 1}


async def test_a_decision_is_sent_again_after_a_lost_connection_under_the_same_op() -> None:
    async def first(stage: Stage) -> None:
        turn = (await stage.hear())["turn"]
        await stage.tell("approval_requested", turn, 1, **ASKED)
        await stage.hear()
        await stage.connection.close(1012)

    async def second(stage: Stage) -> None:
        attached = await stage.hear()
        assert attached["after"]["seq"] == 1
        again = await stage.hear()
        assert (again["type"], again["call"], again["decision"]) == ("approve", "c", "deny")
        await stage.tell("approval_decided", attached["turn"], 2, call="c", decision="deny", by="u")
        await stage.tell("completed", attached["turn"], 3, text="")

    async with gateway(first, second) as (address, heard):
        assert await asked_then(address) == ("completed", ["c"])
    approvals = [frame["op"] for frame in heard if frame["type"] == "approve"]
    assert len(approvals) == 2
    assert len(set(approvals)) == 1


async def test_a_decision_that_was_not_taken_is_asked_for_again() -> None:
    async def scene(stage: Stage) -> None:
        turn = (await stage.hear())["turn"]
        await stage.tell("approval_requested", turn, 1, **ASKED)
        op = (await stage.hear())["op"]
        error = {"type": "error", "code": "bad_request", "message": "no", "retry": "no", "ref": op}
        await stage.connection.send(json.dumps(error))
        await stage.hear()
        await stage.tell("completed", turn, 2, text="")

    async with gateway(scene) as (address, _):
        assert await asked_then(address) == ("completed", ["c", "c"])
