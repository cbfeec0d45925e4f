"""Reads the whole journal, and all snapshots, in MongoDB, page by page. Knows the collections' keys; writes nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from pymongo import ASCENDING, ReadPreference
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from journal.mongo_errors import Answered
from journal.mongo_journal import COLLECTION, row_of
from journal.mongo_payloads import MongoPayloads
from journal.mongo_snapshots import SNAPSHOTS
from journal.port import Row, StoreUnavailable
from schemas.snapshot import Snapshot

Document = dict[str, Any]
T = TypeVar("T")
_PAGE = 2_000
_CHUNKS = 16
_PATIENCE_S, _PAUSE_S = 30.0, 0.5
_ASKED_S = 0.001  # the question for the next page is out by then, and is answered while this one is looked at


class MongoSurvey:
    """The survey port. What gets no answer is asked for again: a fail-over in the middle is ridden out."""

    def __init__(self, database: AsyncDatabase[Document], payloads: MongoPayloads) -> None:
        self._database = database
        self._payloads = payloads

    async def rows(self) -> AsyncIterator[Sequence[Row]]:
        """See the port. In order of `_id`, so that a version that is seen has all before it."""
        async for page in self._pages(COLLECTION):
            for part in _parts(page):
                await self._patiently(partial(self._payloads.fill, part))
                yield [row_of(stored) for stored in part]

    async def snapshots(self) -> AsyncIterator[Sequence[tuple[str, Snapshot]]]:
        """See the port."""
        async for page in self._pages(SNAPSHOTS):
            yield [(stored["_id"], Snapshot.model_validate_json(stored["body"])) for stored in page]

    async def _pages(self, name: str) -> AsyncIterator[list[Document]]:
        collection: AsyncCollection[Document] = self._database[name].with_options(
            read_concern=ReadConcern("majority"), read_preference=ReadPreference.PRIMARY
        )
        page = await self._page(collection, {})
        while page:
            after: Document = {"_id": {"$gt": page[-1]["_id"]}}
            following = asyncio.create_task(self._page(collection, after), name=f"next page of {name}")
            try:
                await asyncio.sleep(_ASKED_S)
                yield page
                page = await following
            finally:
                following.cancel()

    async def _page(self, collection: AsyncCollection[Document], wanted: Document) -> list[Document]:
        async def read() -> list[Document]:
            with Answered(f"read all of {collection.name}"):
                found = collection.find(wanted, sort=[("_id", ASCENDING)], limit=_PAGE, batch_size=_PAGE)
                return await found.to_list()

        return await self._patiently(read)

    @staticmethod
    async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
        until_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return await call()
            except StoreUnavailable:
                if time.monotonic() >= until_s:
                    raise
                await asyncio.sleep(_PAUSE_S)


def _parts(page: Sequence[Document]) -> Iterator[list[Document]]:
    """The page, cut so that no part has bodies of many megabytes beside its rows."""
    part: list[Document] = []
    chunks = 0
    for stored in page:
        part.append(stored)
        chunks += stored.get("p", 0)
        if chunks >= _CHUNKS:
            yield part
            part, chunks = [], 0
    if part:
        yield part
