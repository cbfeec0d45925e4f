"""Bodies that are too large for a row of the journal, in chunks beside it. Knows rows; nothing of what a body says.

Document: payloads {_id: {s, v, n: nonce, i: index}, t: written at (ms), c: bytes}. Written before their row, so that
a row which is there has its body; one whose row is not there (a crash between the two, a collision) is garbage, and the
sweep finds it by its nonce. Chunks of ours and no GridFS: one write and one read for many payloads, keys that carry
the session (deleted by range, and sharded like the journal), and no second collection to keep in step.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from bson import MaxKey, MinKey
from pymongo import ASCENDING, ReadPreference, ReplaceOne, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern

from journal.mongo_errors import Answered, check_writes
from journal.port import PAYLOAD_CHARS, Row

Document = dict[str, Any]
PAYLOADS = "payloads"
_CHUNK_BYTES = 1_048_576
_FIRST, _LAST = MinKey(), MaxKey()


class MongoPayloads:
    """The payloads port, and what journal and fetch need of it."""

    def __init__(self, database: AsyncDatabase[Document], *, rows: str, wait_ms: int) -> None:
        options: dict[str, Any] = {"read_concern": ReadConcern("majority"), "read_preference": ReadPreference.PRIMARY}
        self._rows: AsyncCollection[Document] = database[rows].with_options(**options)
        self._chunks: AsyncCollection[Document] = database[PAYLOADS].with_options(
            **options, write_concern=WriteConcern(w="majority", j=True, wtimeout=wait_ms)
        )
        self._after: Document | None = None

    async def put(self, rows: Sequence[Row]) -> None:
        """Store the bodies of these rows; again where they are there already, for a sweep may be looking at them."""
        for row in rows:
            news = [
                ReplaceOne({"_id": _key(row, index)}, {"t": time.time_ns() // 1_000_000, "c": chunk}, upsert=True)
                for index, chunk in enumerate(chunks_of(row.body or ""))
            ]
            with Answered("put a payload"):
                await self._put(news)

    async def _put(self, news: list[ReplaceOne[Document]]) -> None:
        """A chunk that comes in twice at the same moment (E11000) is the same one."""
        try:
            await self._chunks.bulk_write(news, ordered=False)
        except BulkWriteError as error:
            concern = next(iter(error.details["writeConcernErrors"]), None)
            check_writes({"writeErrors": error.details["writeErrors"], "writeConcernError": concern}, "put a payload")

    async def fill(self, stored: Sequence[Document]) -> None:
        """Give those of these documents their `body` that have it here. Where it is gone it is being unset."""
        large = {_place(document): document for document in stored if "p" in document}
        if not large:
            return
        keys = [{"s": s, "v": v, "n": n, "i": i} for (s, v, n), it in large.items() for i in range(it["p"])]
        parts: dict[tuple[str, int, str], list[bytes]] = {}
        with Answered("read payloads"):
            async for chunk in self._chunks.find({"_id": {"$in": keys}}, sort=[("_id", ASCENDING)]):
                key = chunk["_id"]
                parts.setdefault((key["s"], key["v"], key["n"]), []).append(chunk["c"])
        for place, chunks in parts.items():
            if len(chunks) == large[place]["p"]:
                large[place]["body"] = b"".join(chunks).decode()

    async def remove(self, s: str, after: int, upto: int) -> None:
        """Those of the rows `after` < v <= `upto`, whoever wrote them."""
        with Answered("remove payloads"):
            await self._chunks.delete_many({"_id": {"$gte": {"s": s, "v": after + 1}, "$lt": {"s": s, "v": upto + 1}}})

    async def sweep(self, before_ms: int, limit: int) -> int:
        """See the port. Where the last sweep stopped this one goes on, and at the end from the start."""
        with Answered("sweep payloads"):
            seen = await self._next(limit)
            self._after = seen[-1] if len(seen) == limit else None
            found = self._rows.find(
                {"_id": {"$in": [{"s": key["s"], "v": key["v"]} for key in seen]}, "p": {"$exists": True}},
                projection={"n": 1},
            )
            held = {_place(document) async for document in found}
            places = dict.fromkeys((key["s"], key["v"], key["n"]) for key in seen)
            return sum([await self._remove_old(place, before_ms) for place in places if place not in held])

    async def _next(self, limit: int) -> list[Document]:
        """Keys of chunks, from the index alone."""
        wanted: Document = {} if self._after is None else {"_id": {"$gt": self._after}}
        found = self._chunks.find(wanted, projection={"_id": 1}, sort=[("_id", ASCENDING)], limit=limit)
        return [document["_id"] async for document in found]

    async def _remove_old(self, place: tuple[str, int, str], before_ms: int) -> int:
        """1 where the payload was old enough to go."""
        of = dict(zip("svn", place, strict=True))
        chunks: Document = {"_id": {"$gte": {**of, "i": _FIRST}, "$lte": {**of, "i": _LAST}}}
        young = await self._chunks.find_one({**chunks, "t": {"$gte": before_ms}}, projection={"_id": 1})
        if young is not None:
            return 0
        await self._chunks.delete_many(chunks)
        return 1


def chunks_of(body: str) -> list[bytes]:
    """The body, cut."""
    raw = body.encode()
    return [raw[start : start + _CHUNK_BYTES] for start in range(0, len(raw), _CHUNK_BYTES)]


def chunk_count(body: str) -> int:
    """How many chunks a body has. 0: it goes into its row."""
    return 0 if len(body) <= PAYLOAD_CHARS else -(-len(body.encode()) // _CHUNK_BYTES)


def _key(row: Row, index: int) -> Document:
    return {"s": row.s, "v": row.v, "n": row.nonce, "i": index}


def _place(document: Document) -> tuple[str, int, str]:
    return document["_id"]["s"], document["_id"]["v"], document["n"]
