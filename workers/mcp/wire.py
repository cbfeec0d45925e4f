"""One open connection to a server: raw requests and raw answers. Knows the protocol's two eras; judges no content.

The SDK checks answers: one malformed schema fails a whole list of tools, and a tool's regular expressions are run on
the loop. So lists and calls go past it, below `ClientSession.send_request`; negotiation, correlation, progress and
cancellation stay the SDK's. This leans on three of its inner names (`_stamp`, `_dispatcher`, `_x_mcp_header_maps`) and
on `negotiate_auto`: the conformance tests say when they move.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Literal, cast

import mcp_types as types
from mcp.client._probe import negotiate_auto
from mcp.client._transport import ReadStream, WriteStream
from mcp.client.session import ClientRequestContext, ClientSession, IncomingMessage
from mcp.shared.dispatcher import CallOptions, ProgressFnT
from mcp.shared.inbound import find_invalid_x_mcp_header, x_mcp_header_map
from mcp.shared.message import SessionMessage

from workers.tools.exchange import Answer, Question

MODERN = "2026-07-28"
_MOST_PAGES, _MOST_TOOLS = 100, 1_000
_INFO = types.Implementation(name="turnfleet", version="1")
Era = Literal["auto", "2025-11-25", "2026-07-28"]
Progress = Callable[[float, float | None, str | None], Coroutine[Any, Any, None]]


class Wire(ClientSession):
    """`ask`: what the server wants to know while a call runs (the older era); `changed`: its tools are others now."""

    def __init__(
        self,
        read: ReadStream[SessionMessage | Exception],
        write: WriteStream[SessionMessage],
        *,
        ask: Callable[[Question], Awaitable[Answer]],
        changed: Callable[[], None],
    ) -> None:
        self.offered: Mapping[str, str] | None = None  # tool -> digest, as this connection listed them last
        self._ask = ask
        self._changed = changed
        super().__init__(read, write, elicitation_callback=self._elicit, message_handler=self._heard, client_info=_INFO)

    async def negotiate(self, era: Era) -> None:
        """Agree on the protocol. Raises MCPError and whatever a server's first words make the SDK raise."""
        if era == "auto":
            await negotiate_auto(self)
        elif era == MODERN:
            await self.discover()
        else:
            await self.initialize()

    @property
    def modern(self) -> bool:
        return self.protocol_version == MODERN

    async def tools(self) -> list[Any]:
        """The server's list as it came, every page of it. Raises MCPError."""
        found: list[Any] = []
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = await self._raw("tools/list", {} if cursor is None else {"cursor": cursor})
            tools, cursor = page.get("tools"), page.get("nextCursor")
            found.extend(tools if isinstance(tools, list) else ())
            if not isinstance(cursor, str) or len(found) > _MOST_TOOLS:
                break
        return found[:_MOST_TOOLS]

    def know(self, name: str, schema: Mapping[str, Any]) -> str:
        """Take the headers that a tool's schema asks for (the newer era, HTTP). What is wrong with them, or ""."""
        fault = find_invalid_x_mcp_header(schema) if self.modern else None
        if self.modern and fault is None:
            self._x_mcp_header_maps[name] = x_mcp_header_map(dict(schema))
        return fault or ""

    async def call(self, params: Mapping[str, Any], *, progress: Progress | None) -> dict[str, Any]:
        """Raises MCPError. Cancelled: the server is told, or its request closed."""
        return await self._raw("tools/call", params, progress=progress)

    async def _raw(self, method: str, params: Mapping[str, Any], *, progress: Progress | None = None) -> dict[str, Any]:
        data: dict[str, Any] = {"method": method, "params": dict(params)}
        options: CallOptions = {}
        self._stamp(data, options)
        if progress is not None:
            options["on_progress"] = cast("ProgressFnT", progress)
        return await self._dispatcher.send_raw_request(method, data["params"], options)

    async def _heard(self, message: IncomingMessage) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._changed()
        await asyncio.sleep(0)

    async def _elicit(
        self, context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult | types.ErrorData:
        if isinstance(params, types.ElicitRequestURLParams):  # nobody here goes to an address for a server
            return types.ElicitResult(action="decline")
        return types.ElicitResult.model_validate(response(await self._ask(question(params.model_dump(by_alias=True)))))


def question(params: Mapping[str, Any]) -> Question:
    """What an elicitation asks."""
    message, schema, url = params.get("message"), params.get("requestedSchema"), params.get("url")
    said = message if isinstance(message, str) else "The server asks for more."
    if isinstance(url, str):
        return Question(f"{said}\n{url[:2_000]}")
    return Question(said[:4_000], schema if isinstance(schema, dict) else None)


def response(answer: Answer) -> dict[str, Any]:
    """An answer as the protocol wants it."""
    if not answer.allowed:
        return {"action": "decline"}
    if isinstance(answer.content, dict):
        return {"action": "accept", "content": answer.content}
    return {"action": "accept"}
