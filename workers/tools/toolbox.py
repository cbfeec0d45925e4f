"""The tools of one turn, by name. Calls none of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from workers.agent import SessionInfo
from workers.models.port import ToolSpec
from workers.tools.tool import Tool

_log = logging.getLogger("fleet.worker")


class Toolbox:
    """Those that its user may use and that the turn allows (`only`, None: all). Of two with one name the first counts;
    the other is logged."""

    def __init__(self, tools: Sequence[Tool], info: SessionInfo, *, only: Sequence[str] | None = None) -> None:
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if not tool.policy.admits(info) or (only is not None and tool.name not in only):
                continue
            if tool.name in self._tools:
                _log.warning("two tools are called %r: the later one is left out", tool.name)
                continue
            self._tools[tool.name] = tool

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def get(self, name: str) -> Tool | None:
        return self._tools.get(name)

    @property
    def by_name(self) -> tuple[ToolSpec, ...]:
        """What the model is told of them, by name: the same from turn to turn, whoever answered first."""
        return tuple(self._tools[name].spec for name in sorted(self._tools))

    @property
    def names(self) -> str:
        """For the model."""
        return ", ".join(sorted(self._tools)) or "none"

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What the model is told of them, always in the same order."""
        return tuple(tool.spec for tool in self._tools.values())
