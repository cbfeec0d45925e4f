"""The HTTP routes from outside: a real server, a plain client, twins behind it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from broker.memory import Verdict
from tests.support.gateway_house import House, Served, house, served

__all__ = ["house", "served"]


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """(id, frame) of every event of a stream."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "data" in fields:
            events.append((fields.get("id", ""), json.loads(fields["data"])))
    return events


async def test_a_session_is_created_reused_or_rejected(served: Served) -> None:
    async with served.http() as http:
        created = await http.post("/v1/sessions", json={"session": "s1", "agent": "stub"})
        reused = await http.post("/v1/sessions", json={"session": "s1"})
        rejected = await http.post("/v1/sessions", json={"session": "s1", "if_exists": "reject"})
        minted = await http.post("/v1/sessions")
        unknown = await http.post("/v1/sessions", json={"agent": "nobody"})

    assert (created.status_code, reused.status_code, rejected.status_code) == (201, 200, 409)
    assert created.json()["agent"] == "stub"
    assert created.json()["state"] == "idle"
    assert rejected.json()["code"] == "exists"
    assert minted.status_code == 201
    assert len(minted.json()["session"]) == 32
    assert unknown.json()["code"] == "not_found"


async def test_a_session_without_a_worker_is_unavailable(house: House) -> None:
    served = await house.gateway(gateway_wait_max_s=0.2)
    house.worker.hearing.clear()
    async with served.http() as http:
        answer = await http.post("/v1/sessions", json={"session": "s1"})

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"


async def test_a_session_whose_first_turn_has_not_begun_is_not_there_yet(house: House, served: Served) -> None:
    house.worker.hearing.clear()
    async with served.http() as http:
        taken = await http.post("/v1/sessions/s1/turns", json={"text": "hi", "turn": "t1"})
        shown = await http.get("/v1/sessions/s1")

    assert taken.status_code == 202
    assert (shown.status_code, shown.json()["code"]) == (404, "not_found")


async def test_a_turn_is_taken_awaited_or_streamed(served: Served) -> None:
    async with served.http() as http:
        taken = await http.post("/v1/sessions/s1/turns", json={"text": "hi", "turn": "t1"})
        done = await http.post("/v1/sessions/s1/turns?wait_s=5", json={"text": "say a|b", "turn": "t2"})
        streamed = await http.post(
            "/v1/sessions/s1/turns", json={"text": "say c|d", "turn": "t3"}, headers={"Accept": "text/event-stream"}
        )

    assert (taken.status_code, taken.json()) == (202, {"session": "s1", "turn": "t1", "state": "unseen"})
    assert (done.status_code, done.json()["type"], done.json()["text"]) == (200, "completed", "ab")
    assert streamed.headers["content-type"].startswith("text/event-stream")
    events = events_of(streamed.text)
    assert [frame["type"] for _, frame in events] == ["accepted", "started", "delta", "completed"]
    assert [mark for mark, _ in events] == [f"{frame['attempt']}-{frame['seq']}" for _, frame in events]
    assert events[0][0] == "0-0"


async def test_a_wait_that_runs_out_says_accepted(house: House, served: Served) -> None:
    async with served.http() as http:
        answer = await http.post("/v1/sessions/s1/turns?wait_s=0.2", json={"text": "hold a|b", "turn": "t1"})
    house.worker.go("s1", "t1")

    assert (answer.status_code, answer.json()["state"]) == (202, "running")


async def test_a_refused_turn_answers_with_its_code(served: Served) -> None:
    async with served.http() as http:
        answer = await http.post("/v1/sessions/s1/turns?wait_s=5", json={"text": "hi", "agent": "nobody"})

    assert (answer.status_code, answer.json()["code"]) == (400, "agent_unknown")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_other_content_under_a_known_turn_is_a_conflict(served: Served) -> None:
    async with served.http() as http:
        once = await http.post("/v1/sessions/s1/turns?wait_s=5", json={"text": "once", "turn": "t1"})
        twice = await http.post("/v1/sessions/s1/turns?wait_s=5", json={"text": "twice", "turn": "t1"})
        again = await http.post("/v1/sessions/s1/turns?wait_s=5", json={"text": "once", "turn": "t1"})

    assert (twice.status_code, twice.json()["code"], twice.json()["turn"]) == (409, "conflict", "t1")
    assert again.json() == once.json()


async def test_history_turns_and_lists_say_what_happened(served: Served) -> None:
    async with served.http() as http:
        for number in range(5):
            await http.post("/v1/sessions/s1/turns?wait_s=5", json={"text": f"hi {number}", "turn": f"t{number}"})
        first = (await http.get("/v1/sessions/s1/history?limit=4")).json()
        rest = (await http.get("/v1/sessions/s1/history", params={"after": first["next"]})).json()
        turn = (await http.get("/v1/sessions/s1/turns/t3")).json()
        unseen = (await http.get("/v1/sessions/s1/turns/t99")).json()
        session = (await http.get("/v1/sessions/s1")).json()

    said = [(item["id"], item["role"], item["parts"][0]["text"]) for item in first["items"] + rest["items"]]
    assert said[:2] == [("t0~0", "user", "hi 0"), ("t0~1", "assistant", "hi 0")]
    assert len(said) == 10
    assert len(first["items"]) == 4
    assert rest["next"] is None
    assert (turn["state"], turn["input"]["text"], turn["result"]["text"]) == ("completed", "hi 3", "hi 3")
    assert (turn["receipt"]["outcome"], turn["receipt"]["agent"]) == ("completed", "stub")
    assert (unseen["state"], unseen["result"]) == ("unseen", None)
    assert (session["turns"], session["agent"], session["agent_version"]) == (5, "stub", "1")
    assert session["expires_ms"] > session["last_ms"]


async def test_a_deleted_session_is_gone_and_may_begin_anew(served: Served) -> None:
    async with served.http() as http:
        await http.post("/v1/sessions/s1/turns?wait_s=5", json={"text": "hi", "turn": "t1"})
        deleted = await http.delete("/v1/sessions/s1")
        gone = await http.get("/v1/sessions/s1/history")
        again = await http.delete("/v1/sessions/s1")
        anew = await http.post("/v1/sessions/s1/turns?wait_s=5", json={"text": "anew", "turn": "t2"})
        history = (await http.get("/v1/sessions/s1/history")).json()

    assert (deleted.status_code, gone.status_code, again.status_code, anew.status_code) == (204, 404, 404, 200)
    assert [item["turn"] for item in history["items"]] == ["t2", "t2"]


async def test_a_cancel_answers_at_once_or_with_its_ack(house: House, served: Served) -> None:
    async with served.http() as http:
        await http.post("/v1/sessions/s1/turns", json={"text": "hold a|b", "turn": "t1"})
        await asyncio.sleep(0.1)
        acked = await http.post("/v1/sessions/s1/turns/t1/cancel?wait_s=5", json={"op": "op1"})
        at_once = await http.post("/v1/sessions/s1/turns/t1/cancel")
        steered = await http.post("/v1/sessions/s1/turns/t1/steer?wait_s=5", json={"text": "more"})
        decided = await http.post("/v1/sessions/s1/turns/t1/approve?wait_s=5", json={"call": "c", "decision": "allow"})

    assert (acked.status_code, acked.json()["state"], acked.json()["op"]) == (200, "applied", "op1")
    assert at_once.status_code == 202
    assert at_once.json()["op"]
    assert (steered.json()["state"], decided.json()["state"]) == ("refused", "refused")


async def test_a_stream_resumes_where_it_was_cut(house: House, served: Served) -> None:
    async with served.http() as http:
        await http.post("/v1/sessions/s1/turns", json={"text": "hold a|b|c", "turn": "t1"})
        cut: list[str] = []
        async with http.stream("GET", "/v1/sessions/s1/turns/t1/events") as stream:
            async for line in stream.aiter_lines():
                if line.startswith("id: "):
                    cut.append(line[4:])
                if cut and cut[-1] == "1-1":
                    break
        house.worker.go("s1", "t1", 2)
        rest = await http.get("/v1/sessions/s1/turns/t1/events", headers={"Last-Event-ID": "1-1"})
        events = events_of(rest.text)
        over = await http.get("/v1/sessions/s1/turns/t1/events", headers={"Last-Event-ID": events[-1][0]})

    assert "".join(frame["text"] for _, frame in events if frame["type"] == "delta") == "bc"
    assert events[-1][1]["text"] == "abc"
    assert min(tuple(map(int, mark.split("-"))) for mark, _ in events) > (1, 1)
    assert (over.status_code, over.text) == (204, "")


async def test_a_turn_that_is_over_is_streamed_from_the_journal(house: House, served: Served) -> None:
    async with served.http() as http:
        await http.post("/v1/sessions/s1/turns?wait_s=5", json={"text": "say a|b", "turn": "t1"})
    other = await house.gateway(partition=1)
    async with other.http() as http:
        stream = await http.get("/v1/sessions/s1/turns/t1/events")
        over = await http.get("/v1/sessions/s1/turns/t1/events", headers={"Last-Event-ID": "1-3"})

    events = events_of(stream.text)
    assert [(mark, frame["type"], frame["text"]) for mark, frame in events] == [("1-3", "completed", "ab")]
    assert over.status_code == 204


async def test_a_session_stream_goes_on_from_turn_to_turn(served: Served) -> None:
    async with served.http() as http:
        await http.post("/v1/sessions/s1/turns?wait_s=5", json={"text": "hi", "turn": "t1"})
        marks: list[str] = []
        headers = {"Last-Event-ID": "t1~1-0"}
        async with http.stream("GET", "/v1/sessions/s1/events", headers=headers) as stream:
            await http.post("/v1/sessions/s1/turns?wait_s=5", json={"text": "hi", "turn": "t2"})
            await http.post("/v1/sessions/s1/turns?wait_s=5", json={"text": "say a|b", "turn": "t3"})
            async for line in stream.aiter_lines():
                if line.startswith("id: "):
                    marks.append(line[4:])
                if marks and marks[-1] == "t3~1-3":
                    break

    assert marks[0] == "t1~1-1"
    assert [mark for mark in marks if mark.startswith("t2")] == ["t2~0-0", "t2~1-1"]


async def test_an_ambiguous_publish_is_a_503_with_the_turn_to_retry_with(house: House) -> None:
    served = await house.gateway(publish_s=0.2)
    house.cluster.judge = lambda _: Verdict.DROP
    async with served.http() as http:
        answer = await http.post("/v1/sessions/s1/turns", json={"text": "hi"})
        house.cluster.judge = lambda _: Verdict.TAKE
        again = await http.post("/v1/sessions/s1/turns?wait_s=5", json={"text": "hi", "turn": answer.json()["turn"]})

    assert (answer.status_code, answer.json()["code"], answer.json()["retry"]) == (503, "publish_unknown", "same_turn")
    assert answer.headers["Retry-After"] == "1"
    assert again.json()["type"] == "completed"
    assert house.worker.ran == [answer.json()["turn"]]


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "code"),
    [
        ("GET", "/nowhere", None, 404, "not_found"),
        ("PUT", "/v1/sessions", None, 405, "bad_request"),
        ("GET", "/v1/sessions?limit=0", None, 400, "bad_request"),
        ("GET", "/v1/sessions?limit=x", None, 400, "bad_request"),
        ("GET", "/v1/sessions?after=%00", None, 400, "bad_request"),
        ("GET", "/v1/sessions/no%20id", None, 400, "bad_request"),
        ("GET", "/v1/sessions/none", None, 404, "not_found"),
        ("POST", "/v1/sessions", '{"session":"a/b"}', 400, "bad_request"),
        ("POST", "/v1/sessions", '{"if_exists":"burn"}', 400, "bad_request"),
        ("POST", "/v1/sessions/s1/turns", "", 400, "bad_request"),
        ("POST", "/v1/sessions/s1/turns", "{not json", 400, "bad_request"),
        ("POST", "/v1/sessions/s1/turns", "[]", 400, "bad_request"),
        ("POST", "/v1/sessions/s1/turns", '{"text":7}', 400, "bad_request"),
        ("POST", "/v1/sessions/s1/turns", '{"text":"\\ud800"}', 400, "bad_request"),
        ("POST", "/v1/sessions/s1/turns", b'{"text":"\xff"}', 400, "bad_request"),
        ("POST", "/v1/sessions/s1/turns", '{"text":"a","metadata":' + "[" * 10_000, 400, "bad_request"),
        ("POST", "/v1/sessions/s1/turns", '{"text":"a","metadata":{"n":NaN}}', 400, "bad_request"),
        ("POST", "/v1/sessions/s1/turns", '{"text":"a","metadata":{"n":' + "9" * 400 + "}}", 400, "bad_request"),
        ("POST", "/v1/sessions/s1/turns", '{"text":"a","turn":"' + "t" * 129 + '"}', 400, "bad_request"),
        ("POST", "/v1/sessions/s1/turns", '{"text":"' + "a" * 300_000 + '"}', 413, "too_large"),
        ("POST", "/v1/sessions/s1/turns", "x" * 1_100_000, 413, "too_large"),
        ("POST", "/v1/sessions/s%0A/turns", '{"text":"a"}', 400, "bad_request"),
        ("POST", "/v1/sessions/s1/turns?wait_s=soon", '{"text":"a"}', 400, "bad_request"),
        ("POST", "/v1/sessions/s1/turns?wait_s=nan", '{"text":"a"}', 400, "bad_request"),
        ("GET", "/v1/sessions/s0/turns/t1/events", None, 404, "not_found"),
    ],
)
async def test_bad_input_gets_a_problem_with_a_code(
    served: Served, method: str, path: str, content: str | bytes | None, status: int, code: str
) -> None:
    async with served.http() as http:
        answer = await http.request(method, path, content=content)
        body = answer.json()
        alive = await http.get("/healthz")

    assert (answer.status_code, body["code"], body["status"]) == (status, code, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"urn:turnfleet:error:{code}"
    assert {"title", "detail", "retry"} <= set(body)
    assert alive.status_code == 200


async def test_a_body_without_an_end_is_cut_off(served: Served) -> None:
    async def endless() -> Any:
        while True:
            yield b"x" * 65_536

    async with served.http() as http:
        try:
            answer = await http.post("/v1/sessions/s1/turns", content=endless())
            assert answer.status_code == 413
        except httpx.TransportError:
            pass
        assert (await http.get("/healthz")).status_code == 200


async def test_a_page_of_another_site_may_not_post(served: Served) -> None:
    async with served.http() as http:
        answer = await http.post(
            "/v1/sessions/s1/turns", json={"text": "hi"}, headers={"Origin": "http://evil.example"}
        )

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


READS = [
    ("GET", "/v1/sessions/{s}"),
    ("GET", "/v1/sessions/{s}/history"),
    ("GET", "/v1/sessions/{s}/events"),
    ("GET", "/v1/sessions/{s}/turns/t1"),
    ("GET", "/v1/sessions/{s}/turns/t1/events"),
    ("DELETE", "/v1/sessions/{s}"),
    ("POST", "/v1/sessions/{s}/turns/t1/cancel"),
    ("POST", "/v1/sessions/{s}/turns/t1/steer"),
    ("POST", "/v1/sessions/{s}/turns/t1/approve"),
]
BODIES = {"steer": {"text": "x"}, "approve": {"call": "c", "decision": "allow"}}


@pytest.mark.parametrize(("method", "path"), READS)
@pytest.mark.parametrize("warm", [True, False], ids=["owner seen here", "owner never seen here"])
async def test_another_users_session_answers_exactly_as_a_missing_one(
    house: House, served: Served, method: str, path: str, warm: bool
) -> None:
    async with served.http("ann") as ann:
        await ann.post("/v1/sessions/s1/turns?wait_s=5", json={"text": "secret", "turn": "t1"})
    asked = served if warm else await house.gateway(partition=1)
    body = BODIES.get(path.rsplit("/", 1)[1])
    async with asked.http("bob") as bob:
        foreign = await bob.request(method, path.format(s="s1"), json=body)
        missing = await bob.request(method, path.format(s="s2"), json=body)

    assert foreign.status_code == 404
    assert (foreign.status_code, foreign.content) == (missing.status_code, missing.content)
    assert foreign.headers.get("content-type") == missing.headers.get("content-type")
    assert house.worker.controls == []


def test_the_matrix_has_a_row_for_every_route_of_a_session() -> None:
    from fastapi import APIRouter

    from gateway import events_http, profile_http, sessions_http, turns_http

    class Anything:
        def __getattr__(self, name: str) -> Any:
            return Anything()

    routers: list[APIRouter] = [
        sessions_http.session_routes(Anything()),  # type: ignore[arg-type]
        turns_http.turn_routes(Anything()),  # type: ignore[arg-type]
        events_http.event_routes(Anything()),  # type: ignore[arg-type]
        profile_http.profile_routes(Anything()),  # type: ignore[arg-type]
    ]
    routes = {
        (method, route.path.replace("{sid}", "{s}").replace("{tid}", "t1"))  # type: ignore[attr-defined]
        for router in routers
        for route in router.routes
        for method in route.methods  # type: ignore[attr-defined]
    }
    with_session = {route for route in routes if "{s}" in route[1]}

    assert with_session - {("POST", "/v1/sessions/{s}/turns")} == set(READS)
    of_whoever_asks = {(method, "/v1/profile") for method in ("GET", "PUT", "PATCH", "DELETE")}  # test_profile_http.py
    assert routes - with_session == {("GET", "/v1/sessions"), ("POST", "/v1/sessions")} | of_whoever_asks


@pytest.mark.parametrize("warm", [True, False])
async def test_nobody_sends_turns_into_another_users_session(house: House, served: Served, warm: bool) -> None:
    async with served.http("ann") as ann:
        await ann.post("/v1/sessions/s1/turns?wait_s=5", json={"text": "secret", "turn": "t1"})
    asked = served if warm else await house.gateway(partition=1)
    async with asked.http("bob") as bob:
        turn = await bob.post("/v1/sessions/s1/turns?wait_s=5", json={"text": "secret", "turn": "t1"})
        opened = await bob.post("/v1/sessions", json={"session": "s1"})
        listed = (await bob.get("/v1/sessions")).json()
    async with asked.socket("bob") as socket:
        frames = [
            await socket.ask(type="turn", session="s1", turn="t1", text="x"),
            await socket.ask(type="attach", session="s1"),
            await socket.ask(type="attach", session="s1", turn="t1"),
            await socket.ask(type="cancel", session="s1", turn="t1"),
            await socket.ask(type="steer", session="s1", turn="t1", text="x"),
            await socket.ask(type="approve", session="s1", turn="t1", call="c", decision="allow"),
            await socket.ask(type="feedback", session="s1", turn="t1", score=1.0),
        ]

    assert (turn.status_code, turn.json()["code"]) == (404, "not_found")
    assert (opened.status_code, opened.json()["code"]) == (404, "not_found")
    assert listed["items"] == []
    assert {frame["code"] for frame in frames} == {"not_found"}
    assert "secret" not in json.dumps(frames)
    assert house.worker.ran == ["t1"]


async def test_a_turn_of_a_new_session_belongs_to_whoever_sent_it_first(house: House, served: Served) -> None:
    house.worker.hearing.clear()
    async with served.socket("ann") as ann, served.socket("bob") as bob:
        assert (await ann.ask(type="turn", session="s1", turn="t1", text="secret"))["type"] == "accepted"
        stolen = await bob.ask(type="turn", session="s1", turn="t1", text="x")
        attached = await bob.ask(type="attach", session="s1", turn="t1")
        own = await ann.ask(type="attach", session="s1", turn="t1")
        house.worker.hearing.set()
        await ann.until("completed")
        await bob.ask(type="ping")

    assert (stolen["code"], attached["code"]) == ("not_found", "not_found")
    assert own["turns"][0]["state"] == "unseen"
    assert "completed" not in [frame["type"] for frame in bob.seen]


async def test_readiness_tells_what_is_lost_and_comes_back_by_itself(house: House, served: Served) -> None:
    async with served.http() as http:
        before = await http.get("/readyz")
        house.cluster.down = True
        await asyncio.sleep(1.1)
        during = await http.get("/readyz")
        house.cluster.down = False
        await asyncio.sleep(1.1)
        after = await http.get("/readyz")

    assert (before.status_code, during.status_code, after.status_code) == (200, 503, 200)
    assert "topics: no broker" in during.json()["detail"]


async def test_the_page_runs_its_own_script_and_nothing_else(served: Served) -> None:
    async with served.http() as http:
        page = await http.get("/")
        openapi = (await http.get("/openapi.json")).json()

    policy = page.headers["content-security-policy"]
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy
    assert "innerHTML" not in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert {"/v1/sessions", "/v1/sessions/{sid}/turns", "/healthz"} <= set(openapi["paths"])
