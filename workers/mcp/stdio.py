"""The stdio transport: a process's lines as messages of the SDK's session. Knows no request.

The SDK's own joins what it has read anew with every chunk, takes a line of any length, and starts a task for each
direction; this one takes none.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable
from types import TracebackType
from typing import Self

import anyio
import mcp_types as types
from mcp.shared.message import SessionMessage

from workers.answer import clean
from workers.mcp.lines import Lines, TooLong
from workers.mcp.process import ServerProcess

_log = logging.getLogger("fleet.mcp")
TOO_LONG = -32_099  # the code of the error that stands for an answer that was thrown away
_ID = re.compile(rb'^\s*\{(?:\s*"jsonrpc"\s*:\s*"2\.0"\s*,)?\s*"id"\s*:\s*(\d{1,15})\s*[,}]')
_MOST_STRANGE = 1_000  # lines that are no message, one after the other, before a server is given up
_UNASKED, _UNASKED_PER_S = 2_000.0, 500.0  # messages that answer nothing: at once, and in the long run


def _parsed(line: bytes) -> types.JSONRPCMessage:
    """Half a surrogate pair, or deep nesting, which pydantic refuses, is no reason to lose an answer or a whole list:
    whoever looks at the part judges it. Raises ValueError, RecursionError."""
    try:
        return types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        if not line.lstrip().startswith(b"{"):
            raise
        value = json.loads(clean(json.dumps(json.loads(line), ensure_ascii=False)))
        return types.jsonrpc_message_adapter.validate_python(value, by_name=False)


class _Closing:
    """What both directions have in common: the session closes them, the process is ended elsewhere."""

    async def aclose(self) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool | None:
        await self.aclose()
        return None


class MessagesOut(_Closing):
    """What the server prints. `lost`: told once it will print nothing more that can be used, and why."""

    def __init__(self, process: ServerProcess, *, name: str, line_bytes: int, lost: Callable[[str], None]) -> None:
        self._lines = Lines(process.output, line_bytes)
        self._line_bytes = line_bytes
        self._name = name
        self._lost = lost
        self._strange = 0
        self.over = False
        self._loop = asyncio.get_running_loop()
        self._room, self._room_s = _UNASKED, self._loop.time()

    def __aiter__(self) -> Self:
        return self

    async def receive(self) -> SessionMessage | Exception:
        return await self.__anext__()

    async def __anext__(self) -> SessionMessage | Exception:
        while (line := await self._lines.next()) is not None:
            message = self._thrown(line) if isinstance(line, TooLong) else self._message(line)
            if message is not None and self._is_welcome(message):
                return message
            if self._room < 0:
                self._end("it floods us with messages that nobody asked for")
            if self._strange > _MOST_STRANGE:
                self._end(f"it printed {_MOST_STRANGE} lines that are no messages")
            if isinstance(line, TooLong) and not line.ended:
                self._end(f"it printed a line without an end, of far more than {self._line_bytes} bytes")
        return self._end("it ended")

    def _message(self, line: bytes) -> SessionMessage | None:
        if not line.strip():
            return None
        try:
            message = _parsed(line)
        except (ValueError, RecursionError):
            if self._strange == 0:
                _log.warning("mcp %s prints what is no message: %r", self._name, line[:120])
            self._strange += 1
            return None
        self._strange = 0
        return SessionMessage(message)

    def _is_welcome(self, message: SessionMessage) -> bool:
        """Answers are asked for; of all else there may be only so much."""
        if isinstance(message.message, types.JSONRPCResponse | types.JSONRPCError):
            return True
        now_s = self._loop.time()
        self._room = min(_UNASKED, self._room + (now_s - self._room_s) * _UNASKED_PER_S) - 1
        self._room_s = now_s
        return self._room >= 0

    def _thrown(self, line: TooLong) -> SessionMessage | None:
        """An error in place of an answer that was too long, where its beginning says whose it was."""
        found = _ID.match(line.head) if line.ended else None
        _log.warning("mcp %s printed a line of more than %s bytes: thrown away", self._name, self._line_bytes)
        if found is None:
            self._strange += 1
            return None
        error = types.ErrorData(code=TOO_LONG, message=f"the answer has more than {self._line_bytes} bytes")
        return SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=int(found[1]), error=error))

    def _end(self, why: str) -> SessionMessage:
        self.over = True
        self._lost(why)
        raise StopAsyncIteration


class MessagesIn(_Closing):
    """What the server reads. A send ends when the pipe has room: a server that does not read holds up its callers."""

    def __init__(self, process: ServerProcess) -> None:
        self._input = process.input

    async def send(self, item: SessionMessage, /) -> None:
        if self._input.is_closing():
            raise anyio.BrokenResourceError
        self._input.write(item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
        try:
            await self._input.drain()
        except ConnectionError:
            raise anyio.BrokenResourceError from None
