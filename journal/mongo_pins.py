"""The tools of MCP servers as operators accepted them, in MongoDB. Knows nothing of what is in a digest.

Document: {_id: "<server>/<tool>", server, tool, accepted, offered, text, at: at_ms}. There are as many as tools: no
index beside the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymongo import ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from journal.mongo_errors import Answered
from journal.port import Pin, StoreUnavailable

Document = dict[str, Any]
COLLECTION = "pins"


class MongoPins:
    """The port of the pins. What an operator decided is durable when the command says so: majority writes."""

    def __init__(self, database: AsyncDatabase[Document], *, wait_ms: int) -> None:
        self._pins: AsyncCollection[Document] = database[COLLECTION].with_options(
            read_concern=ReadConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern(w="majority", j=True, wtimeout=wait_ms),
        )

    async def of(self, servers: Sequence[str]) -> list[Pin]:
        with Answered("pins of MCP tools"):
            found = (
                await self._pins.find({"server": {"$in": list(servers)}}).sort([("server", 1), ("tool", 1)]).to_list()
            )
        return [_pin(stored) for stored in found]

    async def first(self, pin: Pin) -> Pin:
        fields = {"server": pin.server, "tool": pin.tool, "accepted": pin.accepted, **_offered(pin)}
        key = _key(pin.server, pin.tool)
        with Answered("pin an MCP tool"):
            try:
                await self._pins.update_one({"_id": key}, {"$setOnInsert": fields}, upsert=True)
            except DuplicateKeyError:
                pass  # another worker saw it at the same moment: theirs is the first
            stored = await self._pins.find_one({"_id": key})
        if stored is None:
            raise StoreUnavailable(f"pin of {key}: written, but no majority has it yet")
        return _pin(stored)

    async def offer(self, pin: Pin) -> None:
        with Answered("pin an MCP tool"):
            await self._pins.update_one({"_id": _key(pin.server, pin.tool)}, {"$set": _offered(pin)})

    async def accept(self, server: str, tool: str, digest: str | None) -> bool:
        wanted: Document = {"_id": _key(server, tool), **({} if digest is None else {"offered": digest})}
        with Answered("accept an MCP tool"):
            done = await self._pins.update_one(wanted, {"$set": {"accepted": digest}})
        return done.matched_count == 1


def _key(server: str, tool: str) -> str:
    return f"{server}/{tool}"


def _offered(pin: Pin) -> Document:
    return {"offered": pin.offered, "text": pin.text, "at": pin.at_ms}


def _pin(stored: Document) -> Pin:
    return Pin(
        server=stored["server"],
        tool=stored["tool"],
        accepted=stored["accepted"],
        offered=stored["offered"],
        text=stored["text"],
        at_ms=stored["at"],
    )
