"""Checkpoints of a LangGraph graph: in memory while its turn runs, the last one kept by the session from turn to turn.

Within a turn nothing is read back: the nodes are steps of the journal, so that a later attempt comes by the same states
again. Knows no node and no step.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import JsonValue

from schemas.codes import Code
from schemas.errors import TerminalError

# Before every other one, and the same in every attempt: what is kept must follow from steps alone.
_KEPT_ID = "00000000-0000-6000-8000-000000000000"
_KEPT_AT = "2000-01-01T00:00:00+00:00"


def serde_of(graph: Any) -> JsonPlusSerializer:
    """LangGraph's, with the types that its strict mode knows of this graph."""
    allowed = graph._serde_allowlist
    return JsonPlusSerializer() if allowed is None else JsonPlusSerializer().with_msgpack_allowlist(allowed)


class JournalSaver(InMemorySaver):
    """The thread of one session, for one run."""

    def __init__(self, thread: str, serde: JsonPlusSerializer, kept: JsonValue = None) -> None:
        super().__init__(serde=serde)
        self.config: RunnableConfig = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
        if kept is not None:
            checkpoint, metadata = self.loaded(kept)
            self.put(self.config, checkpoint, metadata, checkpoint["channel_versions"])

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Without the chance that the SDK's own has in it."""
        return f"{int(current or 0) + 1:032}"

    def state(self) -> dict[str, Any]:
        """What the channels of the last checkpoint hold."""
        last = self.get_tuple(self.config)
        return dict(last.checkpoint["channel_values"]) if last is not None else {}

    def kept(self) -> JsonValue:
        """The last checkpoint, for the session to keep."""
        last = self.get_tuple(self.config)
        assert last is not None
        checkpoint = {**last.checkpoint, "id": _KEPT_ID, "ts": _KEPT_AT}
        return self.dumped((checkpoint, {**last.metadata}), "the state of the graph")

    def dumped(self, value: Any, what: str) -> JsonValue:
        """As JSON. Raises TerminalError where it cannot be kept."""
        try:
            kind, data = self.serde.dumps_typed(value)
        except Exception as error:  # noqa: BLE001 (whatever the encoder makes of an author's value)
            raise TerminalError(Code.AGENT_ERROR, f"{what} cannot be kept: {error}") from None
        return {"type": kind, "data": base64.b64encode(zlib.compress(data, 1)).decode()}

    def loaded(self, kept: JsonValue) -> Any:
        """What was dumped."""
        assert isinstance(kept, dict)
        return self.serde.loads_typed((str(kept["type"]), zlib.decompress(base64.b64decode(str(kept["data"])))))
