"""All configured servers as one source of tools. Opens nothing before it is asked; knows no turn."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence

from journal.port import Pins
from workers.agent import SessionInfo
from workers.children import Children
from workers.mcp.config import McpConfig
from workers.mcp.opening import opener
from workers.mcp.pinboard import Pinboard
from workers.mcp.server import McpServer, Tell
from workers.mcp.soundness import Soundness
from workers.mcp.undertaker import Undertaker
from workers.tools.tool import Tool

_log = logging.getLogger("fleet.mcp")
_NOBODY = SessionInfo("", "", "", "", "")


class McpHost:
    """A ToolSource. `servers`: by name, in the file's order."""

    def __init__(
        self,
        config: McpConfig,
        pins: Pins,
        children: Children,
        *,
        clock_ms: Callable[[], int],
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.tell: Tell = lambda what, server, outcome: None
        self._pinboard = Pinboard(pins, list(config.servers), clock_ms=clock_ms)
        self._undertaker = Undertaker()
        soundness = Soundness(children)
        self.servers = {
            name: McpServer(
                name,
                server,
                opener(name, server, environ, self._undertaker),
                pinboard=self._pinboard,
                soundness=soundness,
                tell=self._told,
            )
            for name, server in config.servers.items()
        }
        self._twice: set[str] = set()
        self._warming: asyncio.Task[None] | None = None

    async def tools(self, session: SessionInfo) -> Sequence[Tool]:
        """Those that the session's user may use; servers are asked side by side. Raises nothing."""
        if not self.servers:
            return ()
        found = await asyncio.gather(
            self._pinboard.look(), *(server.tools(session) for server in self.servers.values())
        )
        tools: dict[str, Tool] = {}
        for tool in (tool for of_one in found[1:] for tool in of_one or ()):
            if not tool.policy.admits(session):
                continue
            if tools.setdefault(tool.name, tool) is not tool and tool.name not in self._twice:
                self._twice.add(tool.name)
                _log.warning("mcp: two servers offer %r: the later one is left out; give one a prefix", tool.name)
        return tuple(tools.values())

    def warm_up(self) -> None:
        """Open what is configured so, in the background; a connection per session has none to be opened for."""
        warm = [s for s in self.servers.values() if s.config.warm and s.config.lease == "shared"]
        if warm:
            self._warming = asyncio.create_task(self._look(warm), name="mcp warm-up")

    async def look(self) -> None:
        """Open every server and list its tools (the operator's check)."""
        await self._look(list(self.servers.values()))

    async def _look(self, servers: Sequence[McpServer]) -> None:
        await asyncio.gather(*(server.look(_NOBODY) for server in servers))

    def accepts(self, server: str, name: str) -> bool:
        """Whether a listed tool is as accepted."""
        return any(self._pinboard.accepts(server, tool) for tool in self.servers[server].listed if tool.name == name)

    def _told(self, what: str, server: str, outcome: str) -> None:
        self.tell(what, server, outcome)

    @property
    def open_leases(self) -> int:
        return sum(server.open_leases for server in self.servers.values())

    async def close(self) -> None:
        """Every connection and every process, side by side."""
        if self._warming is not None:
            self._warming.cancel()
        await asyncio.gather(*(server.close() for server in self.servers.values()))
        self._undertaker.close()
