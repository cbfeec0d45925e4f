"""A gateway before a worker that does not keep up: HTTP and WebSocket say `overloaded`, what is in stays in."""

from __future__ import annotations

import asyncio

from tests.support.gateway_house import House, house

__all__ = ["house"]


async def test_turns_are_refused_while_others_wait_for_long_and_taken_again_afterwards(house: House) -> None:
    served = await house.gateway(gateway_queue_age_s=0.5)
    house.worker.hearing.clear()
    async with served.http() as http, served.socket() as client:
        first = await http.post("/v1/sessions/s1/turns", json={"text": "one", "turn": "t1"})
        await asyncio.sleep(0.6)
        probe = await http.post("/v1/sessions/s2/turns", json={"text": "two", "turn": "t2"})
        refused = await http.post("/v1/sessions/s3/turns", json={"text": "three", "turn": "t3"})
        told = await client.ask(type="turn", session="s3", text="three", turn="t3")
        again = await http.post("/v1/sessions/s1/turns", json={"text": "one", "turn": "t1"})
        assert (first.status_code, probe.status_code, again.status_code) == (202, 202, 202)
        assert (refused.status_code, refused.json()["code"], refused.json()["retry"]) == (503, "overloaded", "new_turn")
        assert int(refused.headers["Retry-After"]) >= 1
        assert (told["type"], told["code"], told["turn"]) == ("error", "overloaded", "t3")
        assert told["retry_after_ms"] >= 1_000
        text = await served.metrics()
        assert "fleet_gateway_overloaded_total 2.0" in text
        assert "fleet_gateway_queue_age_seconds 0.0" not in text

        house.worker.hearing.set()
        async with asyncio.timeout(5):
            while len(served.gateway.turns_waiting):
                await asyncio.sleep(0.01)
        done = [await client.ask(type="turn", session="s1", text="again", turn="t1b"), await client.until("completed")]
        assert [frame["type"] for frame in done] == ["accepted", "completed"]
        late = await http.post("/v1/sessions/s3/turns?wait_s=5", json={"text": "three", "turn": "t3b"})
        assert (late.status_code, late.json()["type"]) == (200, "completed")
        assert "fleet_gateway_queue_age_seconds 0.0" in await served.metrics()
    assert {"t1", "t2", "t1b", "t3b"} <= set(house.worker.ran)
    assert "t3" not in house.worker.ran
    assert len(served.gateway.turns_waiting) == 0


async def test_a_busy_session_is_no_overload(house: House) -> None:
    served = await house.gateway(gateway_queue_age_s=0.3)
    async with served.http() as http:
        await http.post("/v1/sessions/s1/turns", json={"text": "hold a|b", "turn": "t1"})
        await asyncio.sleep(0.05)
        for number in range(3):
            await http.post("/v1/sessions/s1/turns", json={"text": "hi", "turn": f"u{number}"})
        await asyncio.sleep(0.4)
        taken = [
            (await http.post("/v1/sessions/s1/turns", json={"text": "hi", "turn": f"v{number}"})).status_code
            for number in range(3)
        ]
        house.worker.go("s1", "t1", 2)
    assert taken == [202, 202, 202]


async def test_a_turn_that_the_broker_did_not_take_does_not_wait(house: House) -> None:
    served = await house.gateway(publish_s=0.2)
    house.cluster.fail()
    async with served.http() as http:
        answer = await http.post("/v1/sessions/s1/turns", json={"text": "hi"})
    assert answer.status_code == 503
    assert len(served.gateway.turns_waiting) == 0
    house.cluster.recover()
