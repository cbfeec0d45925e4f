"""The scripted model over a transport of the test's own and a clock of its own: no network, no sleep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from loadtest.model_server import Connection, Model
from loadtest.script import Rules, Script, answer_text
from loadtest.wheel import Wheel


class FakeLoop:
    """A loop's clock that the test turns."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._timers: list[tuple[float, Callable[[], object]]] = []

    def time(self) -> float:
        return self.now_s

    def call_at(self, when: float, callback: Callable[[], object], /) -> object:
        self._timers.append((when, callback))
        return when

    def run(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while due := [timer for timer in self._timers if timer[0] <= until_s]:
            timer = min(due, key=lambda found: found[0])
            self._timers.remove(timer)
            self.now_s = max(self.now_s, timer[0])
            timer[1]()
        self.now_s = until_s


class FakeTransport(asyncio.Transport):
    """Remembers each write with its moment."""

    def __init__(self, loop: FakeLoop) -> None:
        super().__init__()
        self.writes: list[tuple[float, bytes]] = []
        self.closed = False
        self._clock = loop

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append((self._clock.now_s, bytes(data)))

    def close(self) -> None:
        self.closed = True

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data in self.writes)


class Client:
    """One connection to the server under test."""

    def __init__(self, model: Model, loop: FakeLoop) -> None:
        self.transport = FakeTransport(loop)
        self.connection = Connection(model)
        self.connection.connection_made(self.transport)

    def ask(self, text: str = "hi", *, session: str = "s1", turn: str = "t1", **more: object) -> None:
        messages = [{"role": "user", "content": text}]
        body = {"model": "scripted", "messages": messages, "stream": True, **more}
        self.post("/v1/chat/completions", body, f"x-fleet-session: {session}\r\nx-fleet-turn: {turn}\r\n")

    def post(self, path: str, value: object, headers: str = "") -> None:
        self.connection.data_received(request(path, value, headers))

    def status(self) -> int:
        return int(self.transport.data.split(b" ", 2)[1])

    def events(self) -> list[Any]:
        """The SSE events; `[DONE]` is a string."""
        body = dechunked(self.transport.data.split(b"\r\n\r\n", 1)[1])
        found = [part.removeprefix(b"data: ") for part in body.split(b"\n\n") if part]
        return ["[DONE]" if part == b"[DONE]" else orjson.loads(part) for part in found]

    def text(self) -> str:
        chunks = [event for event in self.events() if isinstance(event, dict)]
        return "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"])

    def asked(self) -> dict[str, int]:
        other = Client(self.connection.model, self.transport._clock)
        other.connection.data_received(b"GET /turns HTTP/1.1\r\nHost: x\r\n\r\n")
        counts: dict[str, int] = orjson.loads(other.transport.data.partition(b"\r\n\r\n")[2])
        return counts

    def stats(self) -> dict[str, Any]:
        other = Client(self.connection.model, self.transport._clock)
        other.connection.data_received(b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n")
        found: dict[str, Any] = orjson.loads(other.transport.data.split(b"\r\n\r\n", 1)[1])
        return found


def request(path: str, value: object, headers: str = "") -> bytes:
    body = orjson.dumps(value)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def dechunked(body: bytes) -> bytes:
    found = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        found, body = found + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return found


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def model(loop: FakeLoop) -> Model:
    return Model(loop, Script(Rules()), Wheel(loop, tick_s=0.005))


def scripted(loop: FakeLoop, *rules: dict[str, Any]) -> Model:
    return Model(loop, Script(Rules.model_validate({"rules": rules})), Wheel(loop, tick_s=0.005))


def test_a_stream_is_whole_and_ends_with_usage_when_it_was_asked_for(loop: FakeLoop, model: Model) -> None:
    client = Client(model, loop)
    client.ask('{"tokens": 7, "start": 3}', stream_options={"include_usage": True})
    loop.run(2)
    assert client.text() == "t3 t4 t5 t6 t7 t8 t9 " == answer_text(7, 3)
    *_, finish, usage, done = client.events()
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 7
    assert done == "[DONE]"
    assert client.transport.data.endswith(b"0\r\n\r\n")


def test_usage_is_left_out_when_nobody_asked(loop: FakeLoop, model: Model) -> None:
    client = Client(model, loop)
    client.ask()
    loop.run(2)
    assert not any("usage" in event for event in client.events() if isinstance(event, dict))


def test_tokens_come_at_their_time_each_in_a_write_of_its_own(loop: FakeLoop, model: Model) -> None:
    client = Client(model, loop)
    client.ask('{"tokens": 5, "rate": 100, "first_ms": 50}')
    loop.run(1)
    moments_ms = [round((at_s - 1000) * 1000) for at_s, _ in client.transport.writes]
    assert len(moments_ms) == 5
    for number, at_ms in enumerate(moments_ms):
        assert 50 + 10 * number <= at_ms <= 50 + 10 * number + 6


def test_a_late_loop_sends_what_is_due_in_one_write_but_as_single_events(loop: FakeLoop, model: Model) -> None:
    client = Client(model, loop)
    client.ask('{"tokens": 50, "rate": 100, "first_ms": 0}')
    loop.run(0.1)
    loop.now_s += 0.3
    before = len(client.transport.writes)
    loop.run(0.001)
    assert len(client.transport.writes) - before == 1
    assert client.transport.writes[-1][1].count(b"data: ") >= 30
    loop.run(2)
    assert client.text() == answer_text(50)


def test_429_comes_with_retry_after_as_often_as_the_script_says(loop: FakeLoop) -> None:
    model = scripted(loop, {"times": 2, "answer": {"status": 429, "retry_after_s": 1.5}})
    answers = []
    for _ in range(3):
        client = Client(model, loop)
        client.ask('{"tokens": 1}')
        loop.run(1)
        answers.append(client.status())
    assert answers == [429, 429, 200]
    refused = Client(scripted(loop, {"answer": {"status": 429, "retry_after_s": 1.5}}), loop)
    refused.ask()
    assert b"\r\nretry-after: 1.5\r\n" in refused.transport.data
    assert client.stats()["statuses"] == {"200": 1, "429": 2}


def test_5xx_has_a_body_and_the_connection_stays(loop: FakeLoop) -> None:
    client = Client(scripted(loop, {"times": 1, "answer": {"status": 503}}), loop)
    client.ask()
    assert client.status() == 503
    assert not client.transport.closed
    client.transport.writes.clear()
    client.ask('{"tokens": 2}')
    loop.run(1)
    assert client.text() == "t0 t1 "


def test_a_cut_stream_ends_without_its_end(loop: FakeLoop) -> None:
    client = Client(scripted(loop, {"answer": {"cut_after": 3}}), loop)
    client.ask('{"tokens": 10}')
    loop.run(1)
    assert client.transport.closed
    assert client.transport.data.count(b'"content":"t') == 3
    assert b"[DONE]" not in client.transport.data
    assert not client.transport.data.endswith(b"0\r\n\r\n")
    assert client.stats()["cut"] == 1
    assert client.stats()["completed"] == 0


def test_an_answer_that_is_not_streamed_takes_as_long_and_is_whole(loop: FakeLoop, model: Model) -> None:
    client = Client(model, loop)
    client.ask('{"tokens": 10, "rate": 10, "first_ms": 500}', stream=False)
    loop.run(1.4)
    assert client.transport.data == b""
    loop.run(0.2)
    body = orjson.loads(client.transport.data.split(b"\r\n\r\n", 1)[1])
    assert body["choices"][0]["message"]["content"] == answer_text(10)
    assert body["usage"]["completion_tokens"] == 10


def test_a_reader_that_goes_away_is_written_down(loop: FakeLoop, model: Model) -> None:
    client = Client(model, loop)
    client.ask('{"tokens": 100, "rate": 100, "first_ms": 0}', session="s7", turn="t9")
    loop.run(0.5)
    client.connection.connection_lost(None)
    loop.run(2)
    assert client.asked() == {"t9": 1}
    (early,) = client.stats()["closed_early"]
    assert (early["session"], early["turn"], early["tokens_wanted"]) == ("s7", "t9", 100)
    assert 45 <= early["tokens_sent"] <= 51
    assert early["at_ms"] > 10**12
    assert client.stats()["in_flight"] == 0


def test_two_turns_of_one_session_at_the_same_time_are_an_overlap(loop: FakeLoop, model: Model) -> None:
    first, second, other = Client(model, loop), Client(model, loop), Client(model, loop)
    first.ask('{"tokens": 100, "rate": 100}', turn="t1")
    other.ask('{"tokens": 100, "rate": 100}', session="s2", turn="t1")
    loop.run(0.2)
    second.ask('{"tokens": 100, "rate": 100}', turn="t2")
    loop.run(5)
    (overlap,) = first.stats()["overlaps"]
    assert (overlap["session"], overlap["turn"], overlap["other_turn"]) == ("s1", "t2", "t1")
    assert overlap["seconds"] == pytest.approx(0.84, abs=0.05)


def test_one_after_the_other_is_no_overlap_and_neither_is_a_hand_over(loop: FakeLoop, model: Model) -> None:
    first, second = Client(model, loop), Client(model, loop)
    first.ask('{"tokens": 100, "rate": 100}', turn="t1")
    loop.run(0.2)
    second.ask('{"tokens": 10, "rate": 100}', turn="t2")
    loop.run(0.03)
    first.connection.connection_lost(None)
    loop.run(2)
    second.transport.writes.clear()
    second.ask('{"tokens": 10, "rate": 100}', turn="t3")
    loop.run(2)
    assert first.stats()["overlaps"] == []


def test_parallel_calls_of_one_turn_are_counted_apart(loop: FakeLoop, model: Model) -> None:
    first, second = Client(model, loop), Client(model, loop)
    first.ask()
    second.ask()
    loop.run(2)
    assert first.stats()["overlaps"] == []
    assert first.stats()["parallel_calls_of_one_turn"] == 1


def test_the_openai_field_user_names_the_session_too(loop: FakeLoop, model: Model) -> None:
    first, second = Client(model, loop), Client(model, loop)
    first.ask('{"tokens": 100, "rate": 100}', session="", turn="t1", user="s5")
    second.ask('{"tokens": 100, "rate": 100}', session="", turn="t2", user="s5")
    loop.run(3)
    assert [overlap["session"] for overlap in first.stats()["overlaps"]] == ["s5"]


def test_a_request_may_come_in_pieces_and_two_may_come_at_once(loop: FakeLoop, model: Model) -> None:
    client = Client(model, loop)
    asked = request("/v1/chat/completions", {"model": "scripted", "messages": [], "stream": True})
    for place in range(len(asked)):
        client.connection.data_received(asked[place : place + 1])
    client.connection.data_received(asked)
    loop.run(1)
    assert client.transport.data.count(b"[DONE]") == 2


def test_what_is_no_request_gets_400_and_counts(loop: FakeLoop, model: Model) -> None:
    client = Client(model, loop)
    client.post("/v1/chat/completions", {"model": "scripted"})
    assert client.status() == 400
    assert client.stats()["statuses"] == {"400": 1}


def test_the_script_can_be_replaced_and_a_wrong_one_is_refused(loop: FakeLoop, model: Model) -> None:
    client = Client(model, loop)
    client.post("/script", {"rules": [{"answer": {"stats": 500}}]})
    assert client.status() == 400
    client.transport.writes.clear()
    client.post("/script", {"rules": [{"answer": {"status": 500}}]})
    client.transport.writes.clear()
    client.ask()
    assert client.status() == 500


def test_reset_forgets_what_was_counted_but_not_what_still_runs_into_it(loop: FakeLoop, model: Model) -> None:
    client, other = Client(model, loop), Client(model, loop)
    client.ask('{"tokens": 100, "rate": 100}')
    loop.run(0.1)
    other.post("/reset", {})
    loop.run(3)
    assert client.text() == answer_text(100)
    assert client.stats()["requests"] == 0
    assert client.stats()["in_flight"] == 0
