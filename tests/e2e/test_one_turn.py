"""One turn through each way in; the session remembers over all of them, on any worker."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest

from tests.e2e import clients
from tests.e2e.fleet_process import FleetUp


@pytest.fixture
def session() -> str:
    return f"s-{uuid.uuid4().hex[:12]}"


async def test_a_turn_over_the_websocket(stack: FleetUp, session: str) -> None:
    async with clients.socket(stack.address) as connection:
        frames = await clients.say(connection, session, "hello", turn="t1", ref="r1")
    assert frames[0]["type"] == "accepted"
    assert frames[0]["ref"] == "r1"
    assert (frames[-1]["type"], frames[-1]["text"]) == ("completed", "hello")
    assert "".join(frame["text"] for frame in frames if frame["type"] == "delta") in ("", "hello")


async def test_a_turn_over_http(stack: FleetUp, session: str) -> None:
    async with clients.http(stack.address) as client:
        answer = await client.post(f"/v1/sessions/{session}/turns", params={"wait_s": 30}, json={"text": "hello"})
        assert (answer.status_code, answer.json()["type"], answer.json()["text"]) == (200, "completed", "hello")
        assert await clients.history(client, session) == [("user", "hello"), ("assistant", "hello")]


async def test_a_turn_by_a_plain_kafka_producer(stack: FleetUp, session: str) -> None:
    async with clients.Kafka(stack.running["kafka_bootstrap"]) as kafka:
        await kafka.publish(session, {"text": "hello", "turn": "t1"})
        end = await kafka.end_of(session, "t1")
    assert (end["type"], end["text"], end["session"]) == ("completed", "hello", session)


async def test_the_smallest_valid_turn_needs_no_id_and_no_header(stack: FleetUp, session: str) -> None:
    async with clients.Kafka(stack.running["kafka_bootstrap"]) as kafka:
        record = await kafka.publish(session, b'{"text":"hi"}')
        turn = f"at-{record.partition}-{record.offset}-{record.timestamp}"
        assert (await kafka.end_of(session, turn))["text"] == "hi"


async def test_the_session_remembers_what_was_said_in_all_of_them(stack: FleetUp, session: str) -> None:
    async with clients.socket(stack.address) as connection:
        await clients.say(connection, session, "one")
    sent = await asyncio.to_thread(stack.command, "send", session, "two", "--wait")
    assert (sent.returncode, sent.stdout) == (0, "two\n"), sent.stderr
    chat = await asyncio.to_thread(stack.command, "chat", "--session", session, given="three\n")
    assert (chat.returncode, chat.stdout) == (0, "three\n"), chat.stderr
    async with clients.http(stack.address) as client:
        await client.post(f"/v1/sessions/{session}/turns", params={"wait_s": 30}, json={"text": "four"})
        said = [text for role, text in await clients.history(client, session) if role == "user"]
    assert said == ["one", "two", "three", "four"]


async def test_the_model_sees_the_whole_conversation(stack: FleetUp, session: str) -> None:
    hint = {"tokens": 3, "rate": 0, "first_ms": 0}
    inputs = []
    async with clients.socket(stack.address) as connection:
        for number in range(3):
            text = json.dumps({**hint, "start": number * 10})
            end = (await clients.say(connection, session, text, agent="chat"))[-1]
            assert end["type"] == "completed", end
            assert end["text"].split() == [f"t{number * 10 + token}" for token in range(3)]
            inputs.append(end["usage"][0]["input_tokens"])
    assert inputs == sorted(set(inputs)), "each turn's prompt holds more than the last one's"


async def test_a_turn_sent_again_is_answered_with_the_same_frame_and_changes_nothing(
    stack: FleetUp, session: str
) -> None:
    first = await asyncio.to_thread(stack.command, "send", session, "once", "--wait", "--turn", "t1", "--json")
    again = await asyncio.to_thread(stack.command, "send", session, "once", "--wait", "--turn", "t1", "--json")
    assert json.loads(first.stdout) == json.loads(again.stdout)
    async with clients.http(stack.address) as client:
        assert await clients.history(client, session) == [("user", "once"), ("assistant", "once")]


async def test_other_content_under_a_known_turn_is_refused(stack: FleetUp, session: str) -> None:
    await asyncio.to_thread(stack.command, "send", session, "once", "--wait", "--turn", "t1")
    async with clients.http(stack.address) as client:
        answer = await client.post(
            f"/v1/sessions/{session}/turns", params={"wait_s": 20}, json={"text": "twice", "turn": "t1"}
        )
        assert "conflict" in answer.text
        assert await clients.history(client, session) == [("user", "once"), ("assistant", "once")]


async def test_both_workers_take_turns(stack: FleetUp) -> None:
    workers = set()
    async with clients.Kafka(stack.running["kafka_bootstrap"]) as kafka:
        for number in range(24):
            await kafka.publish(f"spread-{number}-{uuid.uuid4().hex[:6]}", {"text": "x", "turn": "t", "agent": "chat"})
        await kafka.until(24, timeout_s=30)
        for frames in kafka.frames.values():
            workers |= {frame["worker"] for frame in frames if frame["type"] == "started"}
    assert len(workers) == 2


async def test_what_is_said_while_the_answer_streams_joins_it(stack: FleetUp, session: str) -> None:
    slow = json.dumps({"tokens": 30, "rate": 20, "first_ms": 0})
    async with clients.socket(stack.address) as connection:
        for turn, text, policy in (("t1", slow, None), ("t2", '{"tokens": 2, "rate": 0, "start": 50}', "steer")):
            said = {"type": "turn", "session": session, "turn": turn, "text": text, "agent": "chat", "if_busy": policy}
            await connection.send(json.dumps({name: value for name, value in said.items() if value is not None}))
            await asyncio.sleep(0.5)
        ends: dict[str, Any] = {}
        async with asyncio.timeout(30):
            while len(ends) < 2:
                frame = json.loads(await connection.recv())
                if frame["type"] in clients.TERMINAL:
                    ends[frame["turn"]] = frame
    async with clients.http(stack.address) as client:
        kept = await clients.history(client, session)
    assert ends["t1"]["text"].split()[-2:] == ["t50", "t51"]
    assert (ends["t2"]["type"], ends["t2"]["text"], ends["t2"]["into"]) == ("completed", "", "t1")
    assert [role for role, _ in kept] == ["user", "assistant", "user", "assistant"]
