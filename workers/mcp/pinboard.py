"""Which tools are as an operator accepted them. Knows digests and the store's port; opens no server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from journal.port import Pin, Pins, StoreUnavailable
from workers.mcp.listing import Listed

_log = logging.getLogger("fleet.mcp")
_TTL_S = 2.0
_WAIT_S = 0.5
_MOST_SAID = 8  # changes of one tool that the log tells: one that never stops is told no more


class Pinboard:
    """The pins of these servers, as the store had them at most `_TTL_S` ago, or when it last answered."""

    def __init__(self, pins: Pins, servers: Sequence[str], *, clock_ms: Callable[[], int]) -> None:
        self._pins = pins
        self._servers = tuple(servers)
        self._clock_ms = clock_ms
        self._held: dict[tuple[str, str], Pin] = {}
        self._read_s: float | None = None
        self._reading: asyncio.Task[None] | None = None
        self._said: dict[tuple[str, str], set[str]] = {}

    def accepts(self, server: str, tool: Listed) -> bool:
        """Whether this is what was accepted."""
        pin = self._held.get((server, tool.name))
        return pin is not None and pin.accepted == tool.digest

    async def look(self) -> None:
        """Read what is too old; what is known serves where the store takes long. Raises nothing."""
        age_s = asyncio.get_running_loop().time() - (self._read_s if self._read_s is not None else -_TTL_S)
        if age_s < _TTL_S:
            return
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="mcp pins")
        await asyncio.wait((self._reading,), timeout=_WAIT_S)

    async def _read(self) -> None:
        try:
            found = await self._pins.of(self._servers)
            self._held = {(pin.server, pin.tool): pin for pin in found}
            self._read_s = asyncio.get_running_loop().time()
        except StoreUnavailable as error:
            _log.warning("pins of MCP tools: %s", error)
        finally:
            self._reading = None

    async def meet(self, server: str, tools: Sequence[Listed], *, strict: bool) -> None:
        """A server offers these: what is new is pinned, what has changed is written down and waits for an operator."""
        if self._read_s is None:
            await self._read()
        try:
            for tool in tools:
                await self._meet(server, tool, strict=strict)
        except StoreUnavailable as error:
            _log.warning("pins of MCP tools: %s", error)  # a tool without a pin is not offered: it is met again

    async def _meet(self, server: str, tool: Listed, *, strict: bool) -> None:
        key = (server, tool.name)
        accepted = None if strict else tool.digest
        offered = Pin(server, tool.name, accepted, tool.digest, tool.text, self._clock_ms())
        pin = self._held.get(key)
        if pin is None:
            pin = self._held[key] = await self._pins.first(offered)
        if pin.offered != tool.digest:
            await self._pins.offer(offered)
            self._held[key] = Pin(server, tool.name, pin.accepted, tool.digest, tool.text, offered.at_ms)
        if pin.accepted != tool.digest:
            self._say(key, tool.digest, "is not accepted" if pin.accepted is None else "has changed")

    def _say(self, key: tuple[str, str], digest: str, why: str) -> None:
        said = self._said.setdefault(key, set())
        if digest in said or len(said) >= _MOST_SAID:
            return
        said.add(digest)
        last = "; it changes again and again, no more is said of it" if len(said) == _MOST_SAID else ""
        _log.warning("mcp %s: tool %r %s: suspended until `fleet agents pins accept %s %s`%s", *key, why, *key, last)
