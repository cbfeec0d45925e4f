"""Tools that change under us: suspended until an operator accepts them; what is in progress is not called."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from journal.gate import Call
from journal.memory import MemoryStore
from journal.port import StoreUnavailable
from schemas.parts import text_of
from tests.support.mcp_hosts import hosted, hostile, ours, served
from workers.mcp import pinboard


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(pinboard, "_TTL_S", 0.0)
    caplog.set_level(logging.WARNING, "fleet.mcp")


async def test_a_changed_tool_is_suspended_until_it_is_accepted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place, store = tmp_path / "description", MemoryStore()
    place.write_text("Reads")
    async with hosted(store.pins, it=hostile("changing", variables={"PLACE": str(place)})) as made:
        before = await made.tools()
        assert before["good"].description == "Reads"

        place.write_text("Reads, and sends it to me")
        assert await made.tools() == {}
        answer = await before["good"].call({})  # of a turn that began before
        assert answer.is_error
        assert text_of(answer.parts) == "good is suspended: it is not as accepted"
        assert made.outcomes() == ["suspended"]

        (pin,) = await store.pins.of(["it"])
        assert pin.accepted != pin.offered
        assert "sends it to me" in pin.text
        assert await store.pins.accept("it", "good", pin.offered)
        assert (await made.tools())["good"].description == "Reads, and sends it to me"
        assert text_of((await made.call("good")).parts) == "good works"

        place.write_text("Reads")  # back to what was accepted once, and no longer is
        assert await made.tools() == {}
    line = "mcp it: tool 'good' has changed: suspended until `fleet agents pins accept it good`"
    assert caplog.messages.count(line) == 2


async def test_a_tool_that_changes_while_its_server_is_closed_is_not_called(tmp_path: Path) -> None:
    place = tmp_path / "description"
    place.write_text("Reads")
    async with hosted(it=hostile("changing", variables={"PLACE": str(place)}, idle_s=0.1)) as made:
        before = await made.tools()
        await made.until("mcp_openings", "closed")
        place.write_text("Sends")
        answer = await before["good"].call({})
        assert answer.is_error
        assert text_of(answer.parts) == "good is suspended: it is not as accepted"


async def test_strict_pins_wait_for_an_operator(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    async with hosted(store.pins, it=hostile(pin="strict", tools={"good": {}}, others=None)) as made:
        assert await made.tools() == {}
        (pin,) = await store.pins.of(["it"])
        assert await store.pins.accept("it", "good", pin.offered)
        assert list(await made.tools()) == ["good"]
        assert await store.pins.accept("it", "good", None)
        assert await made.tools() == {}
    line = "mcp it: tool 'good' is not accepted: suspended until `fleet agents pins accept it good`"
    assert line in caplog.messages


async def test_what_was_revoked_is_not_taken_as_seen_first_by_the_next_worker() -> None:
    store = MemoryStore()
    async with hosted(store.pins, it=hostile(tools={"good": {}}, others=None)) as made:
        assert list(await made.tools()) == ["good"]
    assert await store.pins.accept("it", "good", None)
    async with hosted(store.pins, it=hostile(tools={"good": {}}, others=None)) as made:
        assert await made.tools() == {}


async def test_without_the_store_what_is_known_holds_and_nothing_else_is_offered() -> None:
    away: list[bool] = []

    async def gate(call: Call) -> None:
        if away and call.operation.startswith("pins"):
            raise StoreUnavailable("away")

    store = MemoryStore(gate)
    async with hosted(store.pins, it=hostile(tools={"good": {}}, others=None)) as made:
        assert list(await made.tools()) == ["good"]
        away.append(True)
        assert list(await made.tools()) == ["good"]
    async with hosted(store.pins, it=hostile(tools={"good": {}}, others=None)) as made:
        assert await made.tools() == {}
        away.clear()
        assert list(await made.tools()) == ["good"]


@pytest.mark.parametrize("transport", ["stdio", "2025-11-25", "2026-07-28"])
async def test_a_server_that_grows_is_asked_again_at_the_next_turn(transport: str) -> None:
    async with served() as at:
        it = ours() if transport == "stdio" else at.config(era=transport)
        async with hosted(it=it) as made:
            assert "new" not in await made.tools()
            await made.call("grow")
            tools = await made.tools()
            assert "new" in tools
            assert "echo" not in tools  # described anew
            assert text_of((await made.call("new")).parts) == "new"


async def test_within_its_time_to_live_a_list_is_not_fetched_again(tmp_path: Path) -> None:
    place = tmp_path / "description"
    place.write_text("Reads")
    async with hosted(it=hostile("changing", variables={"PLACE": str(place)}, list_ttl_s=0.3)) as made:
        await made.tools()
        place.write_text("Sends")
        assert list(await made.tools()) == ["good"]
        await asyncio.sleep(0.3)
        assert await made.tools() == {}
