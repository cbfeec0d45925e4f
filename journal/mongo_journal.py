"""Sessions as logs in MongoDB: one collection, `_id: {s, v}` is the fence. Knows nothing of what an entry says.

Document: {_id: {s, v}, k: kind, n: nonce, t: at_ms, turn?, op?, body?, p?, frames?}; `p`: the body lies in so many
chunks beside it (`journal.mongo_payloads`), and where they are gone it is unset. The fields of `_id` always come in
this order, for the store compares them in the order in which they are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pymongo import ASCENDING, IndexModel, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from journal.content import has_content
from journal.mongo_errors import Answered, check_writes
from journal.mongo_payloads import MongoPayloads, chunk_count
from journal.port import PAYLOAD_CHARS, Row, Verdict

Document = dict[str, Any]
COLLECTION = "journal"
_LAST = 1 << 62
_WINDOW = 500
_MAJORITY = ReadConcern("majority")
_CONTENT = {"body": "", "p": "", "frames": ""}


def document_of(row: Row) -> Document:
    """The row as it is stored."""
    new: Document = {"_id": {"s": row.s, "v": row.v}, "k": row.kind, "n": row.nonce, "t": row.at_ms}
    if row.turn is not None:
        new["turn"] = row.turn
    if row.op is not None:
        new["op"] = row.op
    if row.body is not None:
        if len(row.body) <= PAYLOAD_CHARS:
            new["body"] = row.body
        else:
            new["p"] = chunk_count(row.body)
    if row.frames:
        new["frames"] = row.frames
    return new


def row_of(stored: Document) -> Row:
    """The row that a document holds."""
    key = stored["_id"]
    return Row(
        key["s"],
        key["v"],
        stored["k"],
        stored["n"],
        stored["t"],
        stored.get("turn"),
        stored.get("op"),
        stored.get("body"),
        tuple(stored.get("frames", ())),
    )


def versions(s: str, after: int, upto: int = _LAST) -> Document:
    """A filter on `_id`, served by its index: versions `after` < v <= `upto` of `s`."""
    return {"_id": {"$gt": {"s": s, "v": after}, "$lte": {"s": s, "v": upto}}}


class MongoJournal:
    """The journal port on a replica set. `wait_ms`: how long a majority, or a linearizable read, is waited for."""

    def __init__(self, database: AsyncDatabase[Document], payloads: MongoPayloads, *, wait_ms: int) -> None:
        self._database = database
        self._payloads = payloads
        self._wait_ms = wait_ms
        self._concern = {"w": "majority", "j": True, "wtimeout": wait_ms}
        plain: AsyncCollection[Document] = database[COLLECTION]
        self._rows = plain.with_options(
            read_concern=_MAJORITY,
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern(w="majority", j=True, wtimeout=wait_ms),
        )
        self._linear = plain.with_options(
            read_concern=ReadConcern("linearizable"), read_preference=ReadPreference.PRIMARY
        )

    async def start(self) -> None:
        """Create the index that knows which turn was introduced where."""
        turns = IndexModel(
            [("_id.s", ASCENDING), ("turn", ASCENDING)],
            name="turn",
            unique=True,
            partialFilterExpression={"turn": {"$exists": True}},
        )
        with Answered("create the journal's indexes"):
            await self._rows.create_indexes([turns])

    async def insert(self, rows: Sequence[Row]) -> list[Verdict]:
        if large := [row for row in rows if row.body is not None and len(row.body) > PAYLOAD_CHARS]:
            await self._payloads.put(large)
        with Answered("insert"):
            reply = await self._database.command(
                "insert",
                COLLECTION,
                documents=[document_of(row) for row in rows],
                ordered=False,
                writeConcern=self._concern,
            )
        verdicts = [Verdict.APPLIED] * len(rows)
        for error in check_writes(reply, "insert"):
            verdicts[error["index"]] = _verdict_of(error)
        return verdicts

    async def read(self, s: str, after: int, limit: int = 1_000) -> list[Row]:
        with Answered("read"):
            found = self._rows.find(versions(s, after), sort=[("_id", ASCENDING)], limit=limit)
            documents = await found.to_list()
        await self._payloads.fill(documents)
        return [row_of(stored) for stored in documents]

    async def row(self, s: str, v: int) -> Row | None:
        with Answered("row"):
            stored = await self._rows.find_one({"_id": {"s": s, "v": v}})
        if stored is None:
            return None
        await self._payloads.fill([stored])
        return row_of(stored)

    async def exists(self, s: str, v: int) -> bool:
        with Answered("exists"):
            found = await self._linear.find_one(
                {"_id": {"s": s, "v": v}}, projection={"_id": 1}, max_time_ms=self._wait_ms
            )
        return found is not None

    async def introduced(self, s: str, turn: str) -> int | None:
        with Answered("introduced"):
            found = await self._rows.find_one({"_id.s": s, "turn": turn}, projection={"_id": 1})
        return None if found is None else int(found["_id"]["v"])

    async def unset(self, s: str, below: int) -> None:
        after = 0
        with Answered("unset"):
            while (first := await self._first_content(s, after, below - 1)) is not None:
                after = min(first + _WINDOW, below) - 1
                await self._unset(s, first - 1, after)
        await self._payloads.remove(s, 0, below - 1)  # what lost a collision has no row that names it

    async def drop(self, s: str, below: int, *, until_ms: int, limit: int) -> int:
        wanted: Document = {**versions(s, 0, below - 1), "t": {"$lte": until_ms}}
        with Answered("drop"):
            found = self._rows.find(wanted, projection={"_id": 1}, sort=[("_id", ASCENDING)], limit=limit)
            keys = [stored["_id"]["v"] async for stored in found]
            if not keys:
                return 0
            await self._payloads.remove(s, 0, keys[-1])
            done = await self._rows.delete_many({**versions(s, keys[0] - 1, keys[-1]), "t": {"$lte": until_ms}})
        return done.deleted_count

    async def _first_content(self, s: str, after: int, upto: int) -> int | None:
        if upto <= after:
            return None
        wanted = {**versions(s, after, upto), "$or": [{field: {"$exists": True}} for field in ("body", "p", "frames")]}
        found = await self._rows.find_one(wanted, projection={"_id": 1}, sort=[("_id", ASCENDING)])
        return None if found is None else int(found["_id"]["v"])

    async def _unset(self, s: str, after: int, upto: int) -> None:
        """Payloads go one by one: what lies before it first, then the payload, then its row, so that the order holds
        wherever this is cut off: a row whose payload is gone is read as unset."""
        large = {**versions(s, after, upto), "p": {"$exists": True}}
        found = self._rows.find(large, projection={"_id": 1}, sort=[("_id", ASCENDING)])
        for version in [stored["_id"]["v"] for stored in await found.to_list()]:
            await self._unset_window(versions(s, after, version - 1))
            await self._payloads.remove(s, version - 1, version)
            await self._rows.update_many(versions(s, version - 1, version), {"$unset": _CONTENT})
            after = version
        await self._unset_window(versions(s, after, upto))

    async def _unset_window(self, window: Document) -> None:
        """1. notes that are no cancel, 2. frames of CLOSEs, 3. all the rest, ascending: a row found unset that is no
        note says that nothing is left before it."""
        notes = {"k": "control", "turn": {"$exists": False}}
        found = self._rows.find({**window, **notes, "body": {"$exists": True}})
        gone = [stored["_id"] for stored in await found.to_list() if has_content(row_of(stored))]
        if gone:
            await self._rows.update_many({"_id": {"$in": gone}}, {"$unset": _CONTENT})
        closes = {"k": "close", "frames": {"$exists": True}}
        await self._rows.update_many({**window, **closes}, {"$unset": {"frames": ""}})
        rest = {"$nor": [notes, {"k": "close"}]}
        await self._rows.update_many({**window, **rest}, {"$unset": _CONTENT})


def _verdict_of(error: Document) -> Verdict:
    """Which unique key was met: E11000 names its index."""
    pattern: Iterable[str] | None = error.get("keyPattern")
    if pattern is None:
        return Verdict.COLLIDED if "index: _id_" in error["errmsg"] else Verdict.KNOWN
    return Verdict.COLLIDED if list(pattern) == ["_id"] else Verdict.KNOWN
