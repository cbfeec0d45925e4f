"""The WebSocket from outside: a real server, a plain client, twins behind it."""

from __future__ import annotations

import asyncio
import json

import pytest

from broker.memory import Verdict
from gateway.identity import Principal
from tests.support.gateway_house import House, Served, house, served

__all__ = ["house", "served"]


async def test_a_turn_is_accepted_and_its_answer_streams(served: Served) -> None:
    async with served.socket() as client:
        await client.say(type="turn", session="s1", turn="t1", text="say Hel|lo", ref="r")
        await client.until("completed")

    kinds = [frame["type"] for frame in client.seen]
    assert kinds == ["hello", "accepted", "started", "delta", "completed"], "deltas that wait together are one"
    assert client.seen[1]["ref"] == "r"
    assert client.seen[-1]["text"] == "Hello"
    assert client.hello["protocol"] == "turnfleet.v1"
    assert client.hello["user"] == "ann"
    assert "development-mode" in client.hello["features"]
    assert client.connection.subprotocol == "turnfleet.v1"


async def test_a_turn_without_an_id_gets_one(served: Served) -> None:
    async with served.socket() as client:
        accepted = await client.ask(type="turn", session="s1", text="hi")
        done = await client.until("completed")

    assert accepted["type"] == "accepted"
    assert len(accepted["turn"]) == 32
    assert done["turn"] == accepted["turn"]


async def test_only_the_first_turn_of_a_session_asks_the_journal_whose_it_is(served: Served) -> None:
    access, who = served.gateway.access, Principal("default", "ann")
    async with served.socket() as client:
        for number in (1, 2, 3):
            assert access.knows(who, "s1") is (number > 1)
            await client.say(type="turn", session="s1", turn=f"t{number}", text="hi")
            await client.until("completed")
            await asyncio.gather(*served.gateway.waiting)

    assert [frame["turn"] for frame in client.seen if frame["type"] == "completed"] == ["t1", "t2", "t3"]


async def test_turns_of_one_socket_keep_their_order(house: House, served: Served) -> None:
    async with served.socket() as client:
        for number in range(50):
            await client.say(type="turn", session="s1", turn=f"t{number}", text="hi")
        for _ in range(50):
            await client.until("completed")

    assert house.worker.ran == [f"t{number}" for number in range(50)]


async def test_a_turn_that_is_sent_again_gets_its_answer_and_has_no_second_effect(house: House, served: Served) -> None:
    async with served.socket() as client:
        await client.say(type="turn", session="s1", turn="t1", text="say a|b")
        await client.until("completed")
    async with served.socket() as again:
        await again.say(type="turn", session="s1", turn="t1", text="say a|b")
        done = await again.until("completed")
        assert (await again.ask(type="ping"))["type"] == "pong"

    assert done["text"] == "ab"
    assert house.worker.ran == ["t1"]
    positions = [(f["attempt"], f["seq"]) for f in again.seen if "seq" in f]
    assert positions == sorted(set(positions))


async def test_a_turn_that_is_sent_twice_on_one_connection_is_told_once(house: House, served: Served) -> None:
    async with served.socket() as client:
        await client.say(type="turn", session="s1", turn="t1", text="hold a|b|c")
        await client.until("delta")
        again = await client.ask(type="turn", session="s1", turn="t1", text="hold a|b|c")
        house.worker.go("s1", "t1", 2)
        await client.until("completed")
        await client.ask(type="turn", session="s1", turn="t1", text="hold a|b|c")
        await client.ask(type="ping")

    told = [(f["attempt"], f["seq"]) for f in client.seen if f["type"] in {"started", "delta", "completed"}]
    assert again["type"] == "accepted"
    assert told == sorted(set(told))
    assert client.seen[-1]["type"] == "pong"


async def test_a_second_publish_that_fails_does_not_end_the_first(house: House) -> None:
    served = await house.gateway(publish_s=0.3)
    async with served.socket() as client:
        await client.say(type="turn", session="s1", turn="t1", text="hold a|b")
        await client.until("delta")
        house.cluster.judge = lambda outgoing: Verdict.DROP if outgoing.topic == "agent.turns" else Verdict.TAKE
        error = await client.ask(type="turn", session="s1", turn="t1", text="hold a|b")
        house.worker.go("s1", "t1")
        done = await client.until("completed")
        house.cluster.judge = lambda _: Verdict.TAKE

    assert error["code"] == "publish_unknown"
    assert done["text"] == "ab"


async def test_an_ambiguous_publish_says_retry_with_the_same_turn(house: House) -> None:
    served = await house.gateway(publish_s=0.3)
    house.cluster.judge = lambda outgoing: Verdict.DROP if outgoing.topic == "agent.turns" else Verdict.TAKE
    async with served.socket() as client:
        error = await client.ask(type="turn", session="s1", text="hi")
        assert (error["type"], error["code"], error["retry"]) == ("error", "publish_unknown", "same_turn")
        house.cluster.judge = lambda _: Verdict.TAKE
        await client.say(type="turn", session="s1", turn=error["turn"], text="hi")
        assert (await client.until("completed"))["turn"] == error["turn"]

    assert house.worker.ran == [error["turn"]]


async def test_a_refused_publish_says_unavailable(house: House, served: Served) -> None:
    house.cluster.judge = lambda outgoing: Verdict.REFUSE if outgoing.topic == "agent.turns" else Verdict.TAKE
    async with served.socket() as client:
        error = await client.ask(type="turn", session="s1", turn="t1", text="hi")

    assert (error["code"], error["retry"], error["turn"]) == ("unavailable", "same_turn", "t1")


async def test_a_lost_answer_of_the_broker_counts_as_accepted_when_the_worker_has_answered(house: House) -> None:
    served = await house.gateway(publish_s=0.3)
    house.cluster.judge = lambda outgoing: Verdict.TAKE_SILENTLY if outgoing.topic == "agent.turns" else Verdict.TAKE
    async with served.socket() as client:
        await client.say(type="turn", session="s1", turn="t1", text="say a|b")
        assert (await client.until("completed"))["text"] == "ab"

    assert [frame["type"] for frame in client.seen[1:3]] == ["accepted", "started"]


async def test_a_cancel_is_acknowledged_and_ends_the_turn(served: Served) -> None:
    async with served.socket() as client:
        await client.say(type="turn", session="s1", turn="t1", text="hold a|b|c")
        await client.until("delta")
        await client.say(type="cancel", session="s1", turn="t1", ref="c", op="op1")
        ended = await client.until("cancelled")

    ack = next(frame for frame in client.seen if frame["type"] == "ack")
    assert (ack["ref"], ack["op"], ack["state"]) == ("c", "op1", "applied")
    assert ended["text"] == "a"


async def test_steer_and_approve_are_answered_by_the_owner(served: Served) -> None:
    async with served.socket() as client:
        await client.say(type="turn", session="s1", turn="t1", text="hi")
        await client.until("completed")
        steered = await client.ask(type="steer", session="s1", turn="t1", text="more")
        approved = await client.ask(type="approve", session="s1", turn="t1", call="c1", decision="allow")

    assert [steered["state"], approved["state"]] == ["refused", "refused"]


async def test_feedback_is_not_taken_yet(served: Served) -> None:
    async with served.socket() as client:
        await client.say(type="turn", session="s1", turn="t1", text="hi")
        await client.until("completed")
        answer = await client.ask(type="feedback", session="s1", turn="t1", score=1.0)

    assert (answer["type"], answer["code"]) == ("error", "unsupported")


async def test_an_unknown_agent_is_refused_for_the_one_who_asked(served: Served) -> None:
    async with served.socket() as client:
        await client.say(type="turn", session="s1", turn="t1", text="hi", agent="nobody")
        refused = await client.until("refused")

    assert (refused["code"], refused["turn"]) == ("agent_unknown", "t1")


async def test_a_disconnect_is_not_a_cancel(house: House, served: Served) -> None:
    async with served.socket() as client:
        await client.say(type="turn", session="s1", turn="t1", text="hold a|b|c")
        await client.until("delta")
        last = client.seen[-1]
    house.worker.go("s1", "t1", 2)
    async with served.socket() as again:
        after = {"turn": "t1", "attempt": last["attempt"], "seq": last["seq"]}
        recovered = await again.ask(type="attach", session="s1", turn="t1", after=after)
        done = await again.until("completed")

    assert recovered["type"] == "recovered"
    assert recovered["verdict"] == "full"
    assert done["text"] == "abc"
    assert "".join(frame["text"] for frame in again.seen if frame["type"] == "delta") == "bc"


async def test_a_session_is_followed_by_whoever_attaches_to_it(served: Served) -> None:
    async with served.socket() as writer, served.socket() as watcher:
        await writer.say(type="turn", session="s1", turn="t1", text="hi")
        await writer.until("completed")
        recovered = await watcher.ask(type="attach", session="s1")
        await writer.say(type="turn", session="s1", turn="t2", text="say x|y")
        done = await watcher.until("completed")

    assert (recovered["verdict"], recovered["turns"]) == ("full", [])
    assert (done["turn"], done["text"]) == ("t2", "xy")


async def test_after_a_detach_nothing_comes(served: Served) -> None:
    async with served.socket() as writer, served.socket() as watcher:
        await writer.say(type="turn", session="s1", turn="t1", text="hi")
        await writer.until("completed")
        await watcher.ask(type="attach", session="s1")
        await watcher.say(type="detach", session="s1")
        await watcher.ask(type="ping")
        await writer.say(type="turn", session="s1", turn="t2", text="hi")
        await writer.until("completed")
        await watcher.ask(type="ping")

    assert [frame["type"] for frame in watcher.seen] == ["hello", "recovered", "pong", "pong"]


async def test_what_ended_meanwhile_comes_from_the_journal_verbatim(house: House, served: Served) -> None:
    async with served.socket() as client:
        await client.say(type="turn", session="s1", turn="t1", text="say a|b")
        done = await client.until("completed")
    other = await house.gateway(partition=1)
    async with other.socket() as again:
        recovered = await again.ask(
            type="attach", session="s1", turn="t1", after={"turn": "t1", "attempt": 1, "seq": 1}
        )
        assert await again.until("completed") == done

    assert recovered["verdict"] == "partial"
    assert recovered["turns"][0]["state"] == "completed"
    assert recovered["turns"][0]["text"] == "ab"


async def test_a_turn_of_another_gateway_is_watched_to_its_end(house: House, served: Served) -> None:
    other = await house.gateway(partition=0)
    async with served.socket() as first, other.socket() as second:
        await first.say(type="turn", session="s1", turn="t1", text="hold a|b|c")
        await first.until("delta")
        recovered = await second.ask(type="attach", session="s1")
        house.worker.go("s1", "t1", 2)
        done = await second.until("completed")
        await first.until("completed")

    assert recovered["turns"][0]["state"] == "running"
    assert done["text"] == "abc"
    deltas = [frame for frame in second.seen if frame["type"] == "delta"]
    assert deltas == [], "the beginning was never seen here: no delta without the text before it"
    assert house.worker.controls[0] == "watch"


async def test_later_turns_of_another_gateway_are_seen_too(house: House, served: Served) -> None:
    other = await house.gateway(partition=1)
    async with served.socket() as first, other.socket() as second:
        await first.say(type="turn", session="s1", turn="t1", text="hi")
        await first.until("completed")
        await second.ask(type="attach", session="s1")
        for number in range(2, 6):
            await first.say(type="turn", session="s1", turn=f"t{number}", text=f"hi {number}")
            await first.until("completed")
        texts = [(await second.until("completed"))["text"] for _ in range(4)]

    assert texts == ["hi 2", "hi 3", "hi 4", "hi 5"]


async def test_frames_for_another_incarnation_are_skipped(house: House, served: Served) -> None:
    other = await house.gateway(partition=0)
    async with served.socket() as first, other.socket() as second:
        await second.say(type="turn", session="s1", turn="t0", text="hi")
        await second.until("completed")
        await first.say(type="turn", session="s1", turn="t1", text="say a|b")
        await first.until("completed")
        metrics = await other.metrics()

    assert 'fleet_gateway_replies_skipped_total{reason="other_gateway"} 4.0' in metrics


# ---- bad input


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ('{"type":"turn","session":"s1"}', "bad_request"),
        ('{"type":"turn","session":"s1","text":""}', "bad_request"),
        ('{"type":"turn","session":"s1","text":7}', "bad_request"),
        ('{"type":"turn","text":"hi"}', "bad_request"),
        ('{"type":"turn","session":"no id","text":"hi"}', "bad_request"),
        ('{"type":"turn","session":"' + "s" * 129 + '","text":"hi"}', "bad_request"),
        ('{"type":"turn","session":"s\\u0000","text":"hi"}', "bad_request"),
        ('{"type":"turn","session":"s1\\n","text":"hi"}', "bad_request"),
        ('{"type":"turn","session":"s1","turn":"a~b","text":"hi"}', "bad_request"),
        ('{"type":"turn","session":"s1","text":"hi","timeout_ms":0}', "bad_request"),
        ('{"type":"turn","session":"s1","text":"hi","timeout_ms":' + "9" * 400 + "}", "bad_request"),
        ('{"type":"turn","session":"s1","text":"hi","metadata":{"n":' + "9" * 400 + "}}", "bad_request"),
        ('{"type":"turn","session":"s1","text":"hi","metadata":{"n":NaN}}', "bad_request"),
        ('{"type":"turn","session":"s1","text":"hi","metadata":[]}', "bad_request"),
        ('{"type":"turn","session":"s1","text":"\\ud800"}', "bad_request"),
        ('{"type":"turn","session":"s1","text":"hi","metadata":' + "[" * 10_000 + "]" * 10_000 + "}", "bad_request"),
        ('{"type":"turn","session":"s1","text":"hi","parts":[{"type":"smell"}]}', "bad_request"),
        ('{"type":"turn","session":"s1","text":"' + "x" * 300_000 + '"}', "too_large"),
        ('{"type":"turn","session":"s1","text":"hi","metadata":{"a":"' + "x" * 20_000 + '"}}', "too_large"),
        ('{"type":"attach","session":"s1","after":{"turn":"t","attempt":-1,"seq":0}}', "bad_request"),
        ('{"type":"dance"}', "unsupported"),
        ("{}", "bad_request"),
        ("[]", "bad_request"),
        ("7", "bad_request"),
    ],
)
async def test_bad_input_is_answered_and_the_socket_stays_open(served: Served, frame: str, code: str) -> None:
    async with served.socket() as client:
        await client.connection.send(frame)
        error = await client.next()
        assert (error["type"], error["code"], error["retry"]) == ("error", code, "no")
        assert (await client.ask(type="ping"))["type"] == "pong"
        await client.say(type="turn", session="s9", text="hi")
        await client.until("completed")


async def test_unknown_fields_dollars_and_dots_are_taken(house: House, served: Served) -> None:
    async with served.socket() as client:
        metadata = {"$where": 1, "a.b": {"$set": "x"}, "__proto__": None}
        await client.say(type="turn", session="s1", turn="t1", text="hi", metadata=metadata, sparkle=[1, 2])
        await client.until("completed")
    async with served.http() as http:
        turn = (await http.get("/v1/sessions/s1/turns/t1")).json()

    assert turn["input"]["metadata"] == metadata


@pytest.mark.parametrize(
    ("frame", "code"),
    [(b"\x00\x01", 1003), ("{not json", 1007), ('{"type":"ping"} extra', 1007), ("x" * 1_100_000, 1009)],
)
async def test_a_breach_closes_the_socket(served: Served, frame: str | bytes, code: int) -> None:
    async with served.socket() as client:
        await client.connection.send(frame)
        code_seen = await client.closed()

    assert code_seen == code


async def test_text_that_is_no_utf8_closes_the_socket(served: Served) -> None:
    async with served.socket() as client:
        await client.connection.send(b"\xff\xfe", text=True)
        code_seen = await client.closed()

    assert code_seen == 1007


async def test_ten_thousand_frames_in_one_burst_harm_nobody_else(served: Served) -> None:
    async with served.socket("mallory") as flood, served.socket() as other:

        async def pour() -> None:
            for _ in range(10_000):
                await flood.connection.send('{"type":"ping"}')

        pouring = asyncio.create_task(pour())
        slowest = 0.0
        for number in range(20):
            began = asyncio.get_running_loop().time()
            await other.say(type="turn", session="s1", turn=f"t{number}", text="hi")
            await other.until("completed")
            slowest = max(slowest, asyncio.get_running_loop().time() - began)
        await asyncio.gather(pouring, return_exceptions=True)
        code_seen = await flood.closed()

    overloaded = [frame for frame in flood.seen if frame["type"] == "error"]
    assert code_seen == 4429
    assert {frame["code"] for frame in overloaded} == {"overloaded"}
    assert all(frame["retry_after_ms"] > 0 for frame in overloaded)
    assert slowest < 1.0


async def test_a_client_that_never_reads_is_sent_away_and_slows_nobody(house: House) -> None:
    served = await house.gateway(gateway_socket_bytes=65_536)
    big = "say " + "|".join("x" * 2_000 for _ in range(100))
    async with served.socket("sloth", max_queue=1) as sloth, served.socket() as other:
        sloth.connection.transport.pause_reading()
        for number in range(60):
            await sloth.say(type="turn", session="slow", turn=f"t{number}", text=big)
        for number in range(10):
            await other.say(type="turn", session="s1", turn=f"t{number}", text="hi")
            await other.until("completed")
        for _ in range(200):
            if 'closed_total{code="4000"}' in await served.metrics():
                break
            await asyncio.sleep(0.02)
        metrics = await served.metrics()
        assert 'fleet_gateway_sockets_closed_total{code="4000"} 1.0' in metrics
        sloth.connection.transport.abort()


async def test_deltas_are_joined_for_a_client_that_is_slow_and_nothing_is_lost(house: House) -> None:
    served = await house.gateway()
    pieces = [f"{number:05d}." for number in range(3_000)]
    async with served.socket("slow", max_queue=1) as slow:
        await slow.say(type="turn", session="s1", turn="t1", text="say " + "|".join(pieces))
        await slow.until("completed", 10)

    deltas = [frame for frame in slow.seen if frame["type"] == "delta"]
    assert "".join(frame["text"] for frame in deltas) == "".join(pieces)
    assert len(deltas) < 3_000
    assert deltas[-1]["seq"] == 3_000


async def test_a_page_of_another_site_is_sent_away(served: Served) -> None:
    async with served.socket(origin="http://evil.example") as client:
        assert client.hello["code"] == "unauthorized"
        code_seen = await client.closed()

    assert code_seen == 4401


async def test_a_user_name_with_control_characters_must_sign_in_again(served: Served) -> None:
    async with served.socket("a%00b") as client:
        assert client.hello["code"] == "unauthorized"


async def test_a_drain_answers_what_is_under_way_and_sends_the_clients_elsewhere(house: House, served: Served) -> None:
    async with served.socket() as client:
        await client.say(type="turn", session="s1", turn="t1", text="hi")
        served.stop.set()
        code_seen = await client.closed()
    await served.task

    assert code_seen == 1012
    accepted = [frame for frame in client.seen if frame["type"] == "accepted"]
    assert len(accepted) == len(house.worker.ran)


async def test_frames_are_plain_json_text(served: Served) -> None:
    async with served.socket() as client:
        await client.say(type="ping", ref="ü")
        message = await client.connection.recv()

    assert isinstance(message, str)
    assert json.loads(message) == {"type": "pong", "ref": "ü"}
