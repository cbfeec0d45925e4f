"""Which schemas are sound, found out in processes of their own with a time-out. Knows no server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from schemas.errors import RetryableError, TerminalError
from workers.children import Children
from workers.mcp.listing import Listed
from workers.mcp.schema_faults import faults

_ALL_S, _ONE_S = 10.0, 3.0
_MOST_KNOWN = 10_000
_WHAT = "schemas of MCP tools"
_UNJUDGED = "it cannot be judged: that takes too long, or ends the process"


class Soundness:
    """Remembers what it found, by digest."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._known: dict[str, str] = {}

    async def faults(self, tools: Sequence[Listed]) -> dict[str, str]:
        """Digest → what is wrong with the schema, "" where nothing is. One that cannot be judged harms no other."""
        new = [tool for tool in tools if tool.digest not in self._known]
        if new:
            if len(self._known) > _MOST_KNOWN:
                self._known.clear()
            found = await self._of(new, _ALL_S)
            if found is None:
                found = [each[0] if (each := await self._of([tool], _ONE_S)) else _UNJUDGED for tool in new]
            self._known.update(zip((tool.digest for tool in new), found, strict=True))
        return {tool.digest: self._known.get(tool.digest, "") for tool in tools}

    async def _of(self, tools: Sequence[Listed], within_s: float) -> list[str] | None:
        """None: it took too long, or its process ended."""
        try:
            async with asyncio.timeout(within_s):
                found = await self._children.call(_WHAT, faults, [[tool.schema for tool in tools]])
        except (TimeoutError, TerminalError, RetryableError):
            return None
        return [str(text) for text in found] if isinstance(found, list) else None
