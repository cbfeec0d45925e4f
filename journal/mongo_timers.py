"""What has to be looked at later, in MongoDB. Knows nothing of what a timer is for.

Document: {_id: {s, turn, call}, due: due_ms, partition}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymongo import ASCENDING, IndexModel, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from journal.mongo_errors import Answered, check_writes
from journal.port import Timer

Document = dict[str, Any]
COLLECTION = "timers"


class MongoTimers:
    """The timers port. A timer is durable before the entry that needs it, so every write waits for a majority."""

    def __init__(self, database: AsyncDatabase[Document], *, wait_ms: int) -> None:
        self._database = database
        self._concern = {"w": "majority", "j": True, "wtimeout": wait_ms}
        self._timers: AsyncCollection[Document] = database[COLLECTION].with_options(
            read_concern=ReadConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern(w="majority", j=True, wtimeout=wait_ms),
        )

    async def start(self) -> None:
        """Create the index that finds due ones."""
        with Answered("create the timers' index"):
            await self._timers.create_indexes(
                [IndexModel([("partition", ASCENDING), ("due", ASCENDING)], name="due_by_partition")]
            )

    async def arm(self, timers: Sequence[Timer]) -> None:
        if not timers:
            return
        documents = [{"_id": _key(timer), "due": timer.due_ms, "partition": timer.partition} for timer in timers]
        with Answered("arm timers"):
            reply = await self._database.command(
                "insert", COLLECTION, documents=documents, ordered=False, writeConcern=self._concern
            )
        check_writes(reply, "arm timers")  # an existing key stays as it is

    async def due(self, now_ms: int, partitions: Sequence[int], limit: int) -> list[Timer]:
        asked = {"partition": {"$in": list(partitions)}, "due": {"$lte": now_ms}}
        with Answered("due timers"):
            found = await self._timers.find(asked, sort=[("due", ASCENDING)], limit=limit).to_list()
        return [Timer(**stored["_id"], due_ms=stored["due"], partition=stored["partition"]) for stored in found]

    async def disarm(self, timer: Timer) -> None:
        with Answered("disarm a timer"):
            await self._timers.delete_one({"_id": _key(timer), "due": timer.due_ms})


def _key(timer: Timer) -> Document:
    return {"s": timer.s, "turn": timer.turn, "call": timer.call}
