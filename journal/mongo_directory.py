"""The directory of sessions in MongoDB: lists and expiry, written lazily. Never needed for correctness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from journal.mongo_errors import Answered, check_writes
from journal.paging import token_of, where_of
from journal.port import Listed

Document = dict[str, Any]
COLLECTION = "sessions"
_LIVING = {"live": True}
_STORED = tuple(field.name for field in fields(Listed) if field.name != "s")


class MongoDirectory:
    """The directory port. `live` marks the documents that lists and expiry look at; only those are indexed."""

    def __init__(self, database: AsyncDatabase[Document], *, wait_ms: int) -> None:
        self._database = database
        self._concern = {"w": "majority", "wtimeout": wait_ms}
        self._sessions: AsyncCollection[Document] = database[COLLECTION].with_options(
            read_concern=ReadConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern(w="majority", wtimeout=wait_ms),
        )

    async def start(self) -> None:
        """Create the indexes: one for lists, one for expiry, one for the sweep."""
        listed = [("tenant", ASCENDING), ("user", ASCENDING), ("last_ms", DESCENDING), ("_id", ASCENDING)]
        indexes = [
            IndexModel(listed, name="listed", partialFilterExpression=_LIVING),
            IndexModel([("expires_ms", ASCENDING)], name="expires", partialFilterExpression=_LIVING),
            IndexModel(
                [("closed_ms", ASCENDING)], name="closed", partialFilterExpression={"closed_ms": {"$exists": True}}
            ),
        ]
        with Answered("create the directory's indexes"):
            await self._sessions.create_indexes(indexes)

    async def put(self, listed: Sequence[Listed]) -> None:
        """Upserts with a guard; where one meets an existing key (a higher version, or another writer's first insert),
        the same write goes again without the upsert, so that the guard decides."""
        if not listed:
            return
        updates = [_put(item) for item in listed]
        with Answered("put sessions"):
            met = await self._write([{**update, "upsert": True} for update in updates])
            if met:
                await self._write([updates[index] for index in met])

    async def of_user(
        self, tenant: str, user: str, *, limit: int, after: str | None
    ) -> tuple[list[Listed], str | None]:
        wanted: Document = {**_LIVING, "tenant": tenant, "user": user}
        if after is not None:
            last_ms, s = where_of(after)
            wanted["$or"] = [{"last_ms": {"$lt": last_ms}}, {"last_ms": last_ms, "_id": {"$gt": s}}]
        with Answered("list sessions"):
            order = [("last_ms", DESCENDING), ("_id", ASCENDING)]
            page = await self._page(wanted, order, limit + 1)
        if len(page) <= limit:
            return page, None
        page = page[:limit]
        return page, token_of(page[-1].last_ms, page[-1].s)

    async def due(self, now_ms: int, limit: int) -> list[Listed]:
        with Answered("sessions that expire"):
            return await self._page({**_LIVING, "expires_ms": {"$lte": now_ms}}, [("expires_ms", ASCENDING)], limit)

    async def closed_before(self, moment_ms: int, limit: int) -> list[Listed]:
        with Answered("closed sessions"):
            return await self._page({"closed_ms": {"$lt": moment_ms}}, [("closed_ms", ASCENDING)], limit)

    async def versions(self) -> dict[tuple[str, str], int]:
        grouped = {"_id": {"agent": "$agent", "version": "$agent_version"}, "sessions": {"$sum": 1}}
        with Answered("count sessions"):
            found = await (await self._sessions.aggregate([{"$match": _LIVING}, {"$group": grouped}])).to_list()
        return {(one["_id"]["agent"], one["_id"]["version"]): one["sessions"] for one in found}

    async def remove(self, s: str) -> None:
        with Answered("remove a session"):
            await self._sessions.delete_one({"_id": s})

    async def _page(self, wanted: Document, order: list[tuple[str, int]], limit: int) -> list[Listed]:
        found = await self._sessions.find(wanted, sort=order, limit=limit).to_list()
        return [_listed(stored) for stored in found]

    async def _write(self, updates: Sequence[Document]) -> list[int]:
        reply = await self._database.command(
            "update", COLLECTION, updates=list(updates), ordered=False, writeConcern=self._concern
        )
        return [error["index"] for error in check_writes(reply, "put sessions")]


def _put(listed: Listed) -> Document:
    whole = {name: value for name in _STORED if (value := getattr(listed, name)) is not None}
    whole["live"] = listed.closed_ms is None
    return {"q": {"_id": listed.s, "version": {"$lte": listed.version}}, "u": whole}


def _listed(stored: Document) -> Listed:
    return Listed(s=stored["_id"], **{name: value for name, value in stored.items() if name not in ("_id", "live")})
