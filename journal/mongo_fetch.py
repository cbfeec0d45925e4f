"""Rows, snapshots and chunks of many sessions in one command. Knows the collections' keys, nothing of folding.

One command for a session that is loaded alone is as good as one for a hundred: most of what a read costs is the round
trip. The plan is named (`hint`), for planning one range at a time costs the server more than reading it.
"""

from __future__ import annotations

from typing import Any

from pymongo import ReadPreference
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from journal.mongo_errors import Answered
from journal.mongo_journal import COLLECTION, row_of, versions
from journal.mongo_payloads import MongoPayloads
from journal.mongo_snapshots import CHUNKS, SNAPSHOTS, first_chunks
from journal.port import Found, Wanted
from schemas.snapshot import Chunk, Snapshot

Document = dict[str, Any]


class MongoFetch:
    """`Store.fetch` on a replica set."""

    def __init__(self, database: AsyncDatabase[Document], payloads: MongoPayloads) -> None:
        self._payloads = payloads
        self._rows: AsyncCollection[Document] = database[COLLECTION].with_options(
            read_concern=ReadConcern("majority"), read_preference=ReadPreference.PRIMARY
        )

    async def __call__(self, wanted: Wanted) -> Found:
        count = wanted.limit + len(wanted.snapshots) + sum(count for _, count in wanted.chunks.values())
        with Answered("fetch"):
            cursor = await self._rows.aggregate(pipeline_of(wanted), hint={"_id": 1}, batchSize=count + 1)
            stored = await cursor.to_list()
        await self._payloads.fill(stored)
        return found_in(stored)


def pipeline_of(wanted: Wanted) -> list[Document]:
    """Rows first, in order of `_id`; then snapshots and chunks, in no order."""
    stages: list[Document] = [
        {"$match": _any([versions(s, after) for s, after in wanted.rows.items()])},
        {"$sort": {"_id": 1}},
        {"$limit": wanted.limit},
    ]
    if wanted.snapshots:
        stages.append(_with(SNAPSHOTS, {"_id": {"$in": list(wanted.snapshots)}}))
    if wanted.chunks:
        stages.append(_with(CHUNKS, _any([first_chunks(s, *which) for s, which in wanted.chunks.items()])))
    return stages


def found_in(stored: list[Document]) -> Found:
    """What the documents hold, told apart by their keys."""
    found = Found([], {}, {})
    for document in stored:
        key = document["_id"]
        if isinstance(key, str):
            found.snapshots[key] = Snapshot.model_validate_json(document["body"])
        elif "v" in key:
            found.rows.append(row_of(document))
        else:
            found.chunks.setdefault(key["s"], []).append(Chunk.model_validate_json(document["body"]))
    for chunks in found.chunks.values():
        chunks.sort(key=_index)
    return found


def _index(chunk: Chunk) -> int:
    return chunk.index


def _any(filters: list[Document]) -> Document:
    return filters[0] if len(filters) == 1 else {"$or": filters}


def _with(collection: str, wanted: Document) -> Document:
    return {"$unionWith": {"coll": collection, "pipeline": [{"$match": wanted}]}}
