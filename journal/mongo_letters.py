"""What was done with dead letters, in MongoDB. Knows nothing of what is in a letter.

Document: {_id: <letter's id>, state, turn, at: at_ms}.
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
from journal.port import COMPLETED, LetterMark, StoreUnavailable

Document = dict[str, Any]
COLLECTION = "dead_letters"
_PAGE = 1_000


class MongoLetterMarks:
    """The port of the marks on dead letters. A mark is durable before its record goes out: majority writes."""

    def __init__(self, database: AsyncDatabase[Document], *, wait_ms: int) -> None:
        self._marks: AsyncCollection[Document] = database[COLLECTION].with_options(
            read_concern=ReadConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern(w="majority", j=True, wtimeout=wait_ms),
        )

    async def put(self, mark: LetterMark) -> LetterMark:
        fields = {"state": mark.state, "turn": mark.turn, "at": mark.at_ms}
        with Answered("mark a dead letter"):
            try:
                await self._marks.update_one({"_id": mark.letter}, {"$setOnInsert": fields}, upsert=True)
            except DuplicateKeyError:
                pass  # somebody marked it at the same moment: theirs is the first
        held = (await self.of([mark.letter])).get(mark.letter)
        if held is None:
            raise StoreUnavailable(f"mark dead letter {mark.letter}: written, but no majority has it yet")
        return held

    async def complete(self, letter: str) -> None:
        with Answered("mark a dead letter"):
            for begun, done in COMPLETED.items():
                await self._marks.update_one({"_id": letter, "state": begun}, {"$set": {"state": done}})

    async def of(self, letters: Sequence[str]) -> dict[str, LetterMark]:
        found: dict[str, LetterMark] = {}
        for start in range(0, len(letters), _PAGE):
            with Answered("marks of dead letters"):
                page = await self._marks.find({"_id": {"$in": list(letters[start : start + _PAGE])}}).to_list()
            for stored in page:
                found[stored["_id"]] = LetterMark(stored["_id"], stored["state"], stored["turn"], stored["at"])
        return found
