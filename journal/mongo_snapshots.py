"""Folded states and history chunks in MongoDB: derived, disposable. Knows nothing of when a snapshot is due.

Documents: snapshots {_id: s, v, body: JSON text}, snapshot_chunks {_id: {s, b: base, i: index}, body: JSON text}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymongo import ASCENDING, ReadPreference, ReplaceOne, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern

from journal.mongo_errors import Answered, check_writes
from journal.port import Saving
from schemas.snapshot import Chunk, Snapshot

Document = dict[str, Any]
SNAPSHOTS, CHUNKS = "snapshots", "snapshot_chunks"
_FIRST, _LAST = -1, 1 << 62


class MongoSnapshots:
    """The snapshots port. Writes wait for a majority: what a delete removed must not come back."""

    def __init__(self, database: AsyncDatabase[Document], *, wait_ms: int) -> None:
        concern = WriteConcern(w="majority", j=True, wtimeout=wait_ms)
        options: dict[str, Any] = {
            "read_concern": ReadConcern("majority"),
            "read_preference": ReadPreference.PRIMARY,
            "write_concern": concern,
        }
        self._snapshots: AsyncCollection[Document] = database[SNAPSHOTS].with_options(**options)
        self._chunks: AsyncCollection[Document] = database[CHUNKS].with_options(**options)

    async def load(self, s: str) -> Snapshot | None:
        with Answered("load the snapshot"):
            stored = await self._snapshots.find_one({"_id": s})
        return None if stored is None else Snapshot.model_validate_json(stored["body"])

    async def chunks(self, s: str, base: int, count: int) -> list[Chunk]:
        with Answered("load the chunks"):
            found = await self._chunks.find(first_chunks(s, base, count), sort=[("_id", ASCENDING)]).to_list()
        return [Chunk.model_validate_json(stored["body"]) for stored in found]

    async def save(self, saves: Sequence[Saving]) -> None:
        """1. look which are the higher ones 2. chunks 3. snapshots 4. of those without a life no chunk stays."""
        with Answered("save snapshots"):
            news = await self._newer(saves)
            if chunks := [_put(s, chunk) for s, _, some in news for chunk in some]:
                await self._chunks.bulk_write(chunks, ordered=False)
            stored = await self._replace(news)
            for s, snapshot, _ in stored:
                if snapshot.opened is None:
                    await self._chunks.delete_many(_all_of(s))

    async def _newer(self, saves: Sequence[Saving]) -> list[Saving]:
        found = self._snapshots.find({"_id": {"$in": [saving.s for saving in saves]}}, projection={"v": 1})
        there = {stored["_id"]: stored["v"] async for stored in found}
        return [saving for saving in saves if there.get(saving.s, 0) < saving.snapshot.version]

    async def _replace(self, saves: Sequence[Saving]) -> list[Saving]:
        """Those that were stored: a higher one may have come between the look and the write (E11000)."""
        if not saves:
            return []
        try:
            await self._snapshots.bulk_write([_replacement(s, snapshot) for s, snapshot, _ in saves], ordered=False)
        except BulkWriteError as error:
            concern = next(iter(error.details["writeConcernErrors"]), None)
            reply = {"writeErrors": error.details["writeErrors"], "writeConcernError": concern}
            lower = {one["index"] for one in check_writes(reply, "save snapshots")}
            return [saving for place, saving in enumerate(saves) if place not in lower]
        return list(saves)

    async def forget(self, s: str) -> None:
        with Answered("forget the snapshot"):
            await self._snapshots.delete_one({"_id": s})
            await self._chunks.delete_many(_all_of(s))


def _replacement(s: str, snapshot: Snapshot) -> ReplaceOne[Document]:
    new = {"v": snapshot.version, "body": snapshot.model_dump_json(exclude_defaults=True)}
    return ReplaceOne({"_id": s, "v": {"$lt": snapshot.version}}, new, upsert=True)


def first_chunks(s: str, base: int, count: int) -> Document:
    """A filter on `_id`, served by its index: chunks 0 … `count`-1 of the life `base` of `s`."""
    return {"_id": {"$gte": _key(s, base, 0), "$lt": _key(s, base, count)}}


def _key(s: str, base: int, index: int) -> Document:
    return {"s": s, "b": base, "i": index}


def _all_of(s: str) -> Document:
    return {"_id": {"$gt": _key(s, _FIRST, _FIRST), "$lt": _key(s, _LAST, _LAST)}}


def _put(s: str, chunk: Chunk) -> ReplaceOne[Document]:
    body = {"body": chunk.model_dump_json(exclude_defaults=True)}
    return ReplaceOne({"_id": _key(s, chunk.base, chunk.index)}, body, upsert=True)
