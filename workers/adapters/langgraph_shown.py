"""What the models in a graph say, shown as it comes; and what a node says at once. Knows no step and no journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.tracers._streaming import _StreamingCallbackHandler
from langgraph.constants import TAG_NOSTREAM

from workers.adapters.ending import Ending
from workers.context import Context


class Shown(BaseCallbackHandler, _StreamingCallbackHandler[Any]):
    """Of one run. A model in a node streams because this listens."""

    run_inline = True

    def __init__(self, ctx: Context, ending: Ending, known: Collection[str]) -> None:
        self._ctx = ctx
        self._ending = ending
        self._loop = asyncio.get_running_loop()
        self._runs: dict[UUID, str] = {}  # a model's run -> the task that it is in
        self._streamed: set[str] = set()
        self._known = set(known)  # messages that were shown, or there before

    def tap_output_aiter(self, run_id: UUID, output: AsyncIterator[Any]) -> AsyncIterator[Any]:
        return output

    def tap_output_iter(self, run_id: UUID, output: Iterator[Any]) -> Iterator[Any]:
        return output

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **about: Any) -> None:
        """A model begins; those that their author tagged so are not shown."""
        space = (about.get("metadata") or {}).get("langgraph_checkpoint_ns")
        if space is not None and TAG_NOSTREAM not in (about.get("tags") or ()):
            self._runs[run_id] = space.split("|")[0]

    def on_llm_new_token(self, token: str | list[Any], *, chunk: Any = None, run_id: UUID, **about: Any) -> None:
        space = self._runs.get(run_id)
        text = getattr(getattr(chunk, "message", None), "text", "")
        if space is not None and text:
            self._streamed.add(space)
            self._say(text)

    def node_over(self, space: str, values: Iterable[Any]) -> None:
        """A task has ended with these writes: what it says there is shown, unless it streamed."""
        streamed = space.split("|")[0] in self._streamed
        for message in (message for value in values for message in _said(value, self._known)):
            self._known.add(message.id or "")
            if not streamed:
                self._say(message.text)

    def _say(self, text: str) -> None:
        """Also from the thread of a plain `def` node."""
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._emit(text)
        else:
            self._loop.call_soon_threadsafe(self._emit, text)

    def _emit(self, text: str) -> None:
        if not self._ending.over:
            self._ctx.emit(text)


def texts_of(state: Mapping[str, Any], known: Collection[str]) -> list[str]:
    """What the assistant said in `messages` that is not known."""
    return [message.text for message in _said(state.get("messages"), known)]


def _said(value: Any, known: Collection[str]) -> list[AIMessage]:
    several = value if isinstance(value, list) else [value]
    return [it for it in several if isinstance(it, AIMessage) and it.id not in known and it.text]
