"""Bugs of the agents' side that can be planted: each is a context manager. What must find them is a table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import journal.fold
from workers.agents.one.hands import Hands
from workers.branch import Branch
from workers.context import Context
from workers.progress import Progress
from workers.tools.tool import ToolPolicy


def everybody_may() -> Any:
    """A tool's policy admits whoever asks."""
    return patch.object(ToolPolicy, "admits", lambda self, info: True)


def nobody_is_asked() -> Any:
    """An approval is taken for given."""

    async def allowed(self: Context, *_: Any, **__: Any) -> Any:
        from workers.agent import Decision

        return Decision(allowed=True, by="nobody")

    return patch.object(Context, "approval", allowed)


def tools_called_without_an_intent() -> Any:
    """That a tool is about to be called is not written down."""
    real = Context.tool

    async def tool(self: Context, *args: Any, side_effects: bool = True, **more: Any) -> Any:
        return await real(self, *args, side_effects=False, **more)

    return patch.object(Context, "tool", tool)


def nothing_is_kept() -> Any:
    """What a session keeps is forgotten when the turn ends."""
    return patch.object(journal.fold, "_keep", lambda kept, new: kept)


def helpers_files_are_lost() -> Any:
    """What a helper wrote is not taken over."""

    @contextlib.contextmanager
    def planted() -> Iterator[None]:
        real = Hands.act

        async def act(self: Hands, calls: Any) -> Any:
            outputs = await real(self, calls)
            return [output._replace(data=None) for output in outputs]

        with patch.object(Hands, "act", act), patch("workers.agents.one.workspace.Workspace.merge", lambda *_: None):
            yield

    return planted()


def branches_not_replayed() -> Any:
    """A later attempt does the work of its branches again."""
    return patch.object(Branch, "hold", lambda self, steps, intents, asked: None)


def a_passed_branch_is_missed() -> Any:
    """What a delegated call did counts as forgotten once its result is known."""
    return patch.object(Progress, "pass_over", lambda self, up, name: None)
