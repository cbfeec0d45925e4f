"""What a server offers: to each session its own list, and a tool whose description comes and goes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from journal.memory_pins import MemoryPins
from workers.agent import SessionInfo
from workers.mcp.config import PolicyConfig, ServerConfig
from workers.mcp.listing import Listed, listing
from workers.mcp.pinboard import Pinboard
from workers.mcp.server import McpServer

OBJECT: dict[str, Any] = {"type": "object"}


class Wire:
    """A connection that offers `name`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.offered: dict[str, str] | None = None

    async def tools(self) -> list[dict[str, Any]]:
        return [{"name": self.name, "inputSchema": OBJECT}]

    def know(self, name: str, schema: Any) -> str:
        return ""


class Sound:
    async def faults(self, tools: list[Listed]) -> dict[str, str]:
        return dict.fromkeys((tool.digest for tool in tools), "")


def found(text: str) -> Listed:
    (tool,) = listing([{"name": "find", "description": text, "inputSchema": OBJECT}], prefix="it_").tools
    return tool


def session(name: str) -> SessionInfo:
    return SessionInfo("default", name, "ann", "test", "1")


async def test_each_session_of_a_server_that_keeps_state_is_offered_its_own_list() -> None:
    opened = iter(["one", "two"])

    @asynccontextmanager
    async def opener(ears: Any) -> AsyncIterator[Wire]:
        yield Wire(next(opened))

    config = ServerConfig(transport="stdio", command="it", lease="session", others=PolicyConfig(), list_ttl_s=3_600)
    pinboard = Pinboard(MemoryPins(), ["it"], clock_ms=lambda: 0)
    server = McpServer(
        "it", config, opener, pinboard=pinboard, soundness=Sound(), tell=lambda *_: None  # type: ignore[arg-type]
    )  # fmt: skip
    try:
        first, second = session("a"), session("b")
        assert [tool.name for tool in await server.tools(first)] == ["it_one"]
        async with server._lease(second).use():  # its first call opened it
            pass
        assert [tool.name for tool in await server.tools(second)] == ["it_two"]
        assert [tool.name for tool in await server.tools(first)] == ["it_one"]
        assert [tool.name for tool in await server.tools(second)] == ["it_two"]
    finally:
        await server.close()


async def test_a_tool_that_comes_and_goes_is_offered_only_as_accepted_and_takes_one_pin(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pins = MemoryPins()
    board = Pinboard(pins, ["it"], clock_ms=lambda: 0)
    texts = [found("A"), found("B")]
    for number in range(10):
        tool = texts[number % 2]
        await board.meet("it", [tool], strict=False)
        assert board.accepts("it", tool) == (number % 2 == 0)

    assert len(caplog.records) == len(await pins.of(["it"])) == 1
    assert await pins.accept("it", "find", texts[1].digest)
    await Pinboard.look(board)
    again = Pinboard(pins, ["it"], clock_ms=lambda: 0)
    await again.meet("it", [texts[0]], strict=False)
    assert (again.accepts("it", texts[0]), again.accepts("it", texts[1])) == (False, True)


async def test_the_log_tells_of_a_tool_that_never_stops_changing_a_few_times(caplog: pytest.LogCaptureFixture) -> None:
    pins = MemoryPins()
    board = Pinboard(pins, ["it"], clock_ms=lambda: 0)
    with caplog.at_level(logging.WARNING):
        for number in range(100):
            await board.meet("it", [found(str(number))], strict=False)

    assert (len(caplog.records), len(await pins.of(["it"]))) == (8, 1)
    assert caplog.records[-1].getMessage().endswith("it changes again and again, no more is said of it")
