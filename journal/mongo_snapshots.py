"""Folded states and history chunks in MongoDB: derived, disposable. Knows nothing of when a snapshot is due.

Documents: snapshots {_id: s, v, body: JSON text}, snapshot_chunks {_id: {s, b: base, i: index}, body: JSON text}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymongo import ASCENDING, ReadPreference, ReplaceOne, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from journal.mongo_errors import Answered
from schemas.snapshot import Chunk, Snapshot

Document = dict[str, Any]
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
        self._snapshots: AsyncCollection[Document] = database["snapshots"].with_options(**options)
        self._chunks: AsyncCollection[Document] = database["snapshot_chunks"].with_options(**options)

    async def load(self, s: str) -> Snapshot | None:
        with Answered("load the snapshot"):
            stored = await self._snapshots.find_one({"_id": s})
        return None if stored is None else Snapshot.model_validate_json(stored["body"])

    async def chunks(self, s: str, base: int, count: int) -> list[Chunk]:
        wanted = {"_id": {"$gte": _key(s, base, 0), "$lt": _key(s, base, count)}}
        with Answered("load the chunks"):
            found = await self._chunks.find(wanted, sort=[("_id", ASCENDING)]).to_list()
        return [Chunk.model_validate_json(stored["body"]) for stored in found]

    async def save(self, s: str, snapshot: Snapshot, chunks: Sequence[Chunk]) -> None:
        """1. look whether it is the higher one 2. chunks 3. snapshot 4. without a life: no chunk stays."""
        with Answered("save the snapshot"):
            if await self._snapshots.find_one({"_id": s, "v": {"$gte": snapshot.version}}, projection={"_id": 1}):
                return
            if chunks:
                await self._chunks.bulk_write([_put(s, chunk) for chunk in chunks], ordered=True)
            try:
                await self._snapshots.replace_one(
                    {"_id": s, "v": {"$lt": snapshot.version}},
                    {"v": snapshot.version, "body": snapshot.model_dump_json(exclude_defaults=True)},
                    upsert=True,
                )
            except DuplicateKeyError:
                return  # a higher one came between the look and the write
            if snapshot.opened is None:
                await self._chunks.delete_many(_all_of(s))

    async def forget(self, s: str) -> None:
        with Answered("forget the snapshot"):
            await self._snapshots.delete_one({"_id": s})
            await self._chunks.delete_many(_all_of(s))


def _key(s: str, base: int, index: int) -> Document:
    return {"s": s, "b": base, "i": index}


def _all_of(s: str) -> Document:
    return {"_id": {"$gt": _key(s, _FIRST, _FIRST), "$lt": _key(s, _LAST, _LAST)}}


def _put(s: str, chunk: Chunk) -> ReplaceOne[Document]:
    body = {"body": chunk.model_dump_json(exclude_defaults=True)}
    return ReplaceOne({"_id": _key(s, chunk.base, chunk.index)}, body, upsert=True)
